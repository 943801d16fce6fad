// The algorithms: pure functions of (collective, rank, world size, root) that emit schedules, and
// their table.
#pragma once

#include <span>
#include <string_view>

#include "comm/schedule/schedule.h"

namespace weft::comm {

struct Algorithm {
  // "ring", "tree", "halving_doubling", "direct", "two_shot", "recursive_doubling", "hierarchical"
  std::string_view name;
  bool (*supports)(const Problem& problem);
  Schedule (*emit)(const Problem& problem);  // only where supports() says so
};

// All of them; for every collective and world size 1..65536 at least one supports it.
std::span<const Algorithm> algorithms();
const Algorithm* find_algorithm(std::string_view name);

}  // namespace weft::comm
