// What collectives cost among several hosts: dear links between hosts, cheap ones inside.
#pragma once

#include <string_view>

#include "comm/schedule/schedule.h"
#include "comm/select/select.h"

namespace weft::comm {

// Costs of a flat algorithm's links in a world of several hosts. `across`: of one host's link to
// the others, which all its ranks that talk across at the same time share.
LinkCosts shared_costs(std::string_view algorithm, const Problem& problem, const LinkCosts& across);

// Seconds of the hierarchical algorithm, phase by phase as comm/algorithms/hierarchical.cc puts it
// together. That phases overlap when they are tiled is left out.
double hierarchical_seconds(const Problem& problem, Bytes bytes, const LinkCosts& across,
                            const LinkCosts& inside);

// Bytes of one of its messages, as it is before tiling.
double hierarchical_message_bytes(const Problem& problem, double bytes);

}  // namespace weft::comm
