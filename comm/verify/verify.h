// Symbolic proof that the schedules of all ranks, run together, do what their collective promises.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "comm/schedule/memory_schedule.h"
#include "comm/schedule/schedule.h"

namespace weft::comm {

struct Proof {
  bool ok = false;
  std::string counterexample;  // empty when ok; else what breaks, with the steps involved
  std::int64_t steps = 0;
  std::int64_t messages = 0;  // of memory schedules: awaits
};

struct VerifyOptions {
  // How many messages a link holds before its sender blocks; 0: a send completes only when its
  // receive takes it.
  int link_capacity = 0;
  bool in_place = false;  // input and output aliased as schedule.h says
};

// schedules[r] is rank r's. Proves: every output chunk holds exactly what the collective promises,
// each contribution once; all ranks hold the same reduction tree; `completes` marks just the
// complete values; no deadlock under FIFO links with the given capacity; matched messages are
// equally long and none is left over; and no two steps that touch a same chunk, one of them
// writing, are unordered (so the result cannot depend on timing).
Proof verify(std::span<const Schedule> schedules, const VerifyOptions& options);

// schedules[r] is rank r's, of one lowering. Proves the same of schedules in memory: the right
// value in every output, one reduction tree, `completes` where a value is; every await is answered;
// any two accesses to one chunk by different ranks, one of them a write, are ordered by what is
// published and awaited; nothing is read that nobody wrote; and a rank's input and output are
// touched by others only between its entering and its last step, and not at all where the reach is
// scratch. Ranks that run their steps at any speed therefore get the same bits.
Proof verify(std::span<const MemorySchedule> schedules, bool in_place);

}  // namespace weft::comm
