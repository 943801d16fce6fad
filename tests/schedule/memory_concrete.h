// Runs the memory schedules of all ranks on numbers, in a random order that takes every freedom
// there is: who goes on first, when a rank enters, when in the course of a move its sources are
// read and that its targets hold garbage until it is done, and that a rank's buffers are gone once
// it has finished. An oracle that shares nothing with the verifier but the language.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "comm/algorithms/algorithms.h"
#include "comm/passes/lower.h"
#include "comm/schedule/memory_schedule.h"
#include "tests/schedule/worlds.h"

namespace weft::comm {

// Empty when every rank ends with what the collective promises; else what is wrong.
std::string run_concretely(std::span<const MemorySchedule> schedules, bool in_place,
                           std::uint64_t seed);

inline std::string text_of(const std::vector<MemorySchedule>& schedules) {
  std::string text;
  for (const MemorySchedule& schedule : schedules) text += print(schedule);
  return text;
}

inline std::vector<MemorySchedule> lowered_world(std::string_view algorithm, Collective collective,
                                                 int n, Reach reach, int root = 0, int tiles = 1) {
  return lower(emit_world(*find_algorithm(algorithm), collective, n, root, {tiles, false, 1}),
               reach);
}

}  // namespace weft::comm
