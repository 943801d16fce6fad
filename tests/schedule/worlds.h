// Schedules of all ranks at once, as the tests of this room need them.
#pragma once

#include <fmt/format.h>

#include <string>
#include <vector>

#include "comm/algorithms/algorithms.h"
#include "comm/passes/passes.h"
#include "comm/schedule/schedule.h"

namespace weft::comm {

struct Variant {
  int tiles = 1;
  bool fused = false;
  int lanes = 1;
};

inline Schedule emit(const Algorithm& algorithm, const Problem& problem, const Variant& variant) {
  Schedule schedule = tile(algorithm.emit(problem), variant.tiles);
  if (variant.fused) schedule = fuse(schedule);
  return stripe(schedule, variant.lanes);
}

inline std::vector<Schedule> emit_world(const Algorithm& algorithm, Collective collective, int n,
                                        int root, const Variant& variant = {}) {
  std::vector<Schedule> schedules;
  schedules.reserve(static_cast<std::size_t>(n));
  for (int rank = 0; rank < n; ++rank) {
    schedules.push_back(emit(algorithm, {collective, rank, n, root}, variant));
  }
  return schedules;
}

inline std::vector<Collective> scheduled_collectives() {
  std::vector<Collective> all;
  for (int c = 0; c < kScheduledCollectives; ++c) all.push_back(static_cast<Collective>(c));
  return all;
}

inline std::string text_of(const Variant& variant) {
  return fmt::format("{} tiles, {}fused, {} lanes", variant.tiles, variant.fused ? "" : "not ",
                     variant.lanes);
}

inline std::string text_of(const std::vector<Schedule>& schedules) {
  std::string text;
  for (const Schedule& schedule : schedules) text += print(schedule);
  return text;
}

}  // namespace weft::comm
