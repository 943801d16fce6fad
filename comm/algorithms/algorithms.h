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
  // Its all_reduce completes every chunk on one rank, which passes it on; else several ranks fold
  // the same operands, each for itself.
  bool completes_once = true;
};

// Whether every rank gets a copy of one rank's result: what compression on the wire needs.
inline bool completes_once(const Algorithm& algorithm, const Problem& problem) {
  return problem.collective != Collective::all_reduce || problem.world_size == 1 ||
         algorithm.completes_once;
}

// All of them; for every collective and world size 1..65536 at least one supports it.
std::span<const Algorithm> algorithms();
const Algorithm* find_algorithm(std::string_view name);

}  // namespace weft::comm
