// What collectives cost among several hosts: dear links between hosts, cheap ones inside.
#pragma once

#include <string_view>

#include "comm/schedule/schedule.h"
#include "comm/select/select.h"

namespace weft::comm {

// Costs of a flat algorithm's links in a world of several hosts: those of a host's link to the
// others, `across`, which all its ranks that talk across at the same time share, and of `inside` in
// the proportion of its rounds that stay inside. Of one host, or unknown ones: `across`.
LinkCosts flat_costs(std::string_view algorithm, const Problem& problem, const LinkCosts& across,
                     const LinkCosts& inside);

// Seconds of the hierarchical algorithm, phase by phase as comm/algorithms/hierarchical.cc puts it
// together. Broadcast and reduce are pipelines of tiles; that the phases of the others overlap,
// too, is left out: the same core often works for both.
double hierarchical_seconds(const Problem& problem, Bytes bytes, const LinkCosts& across,
                            const LinkCosts& inside);

// Bytes of one of its messages, as it is before tiling.
double hierarchical_message_bytes(const Problem& problem, double bytes);

}  // namespace weft::comm
