// Symbolic proof that the schedules of all ranks, run together, do what their collective promises.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "comm/schedule/schedule.h"

namespace weft::comm {

struct Proof {
  bool ok = false;
  std::string counterexample;  // empty when ok; else what breaks, with the steps involved
  std::int64_t steps = 0;
  std::int64_t messages = 0;
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

}  // namespace weft::comm
