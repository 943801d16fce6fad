// Proofs in bulk: a table of what has been proved, for `weft verify` and the tests.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "comm/schedule/schedule.h"

namespace weft::comm {

// One way of making schedules: an algorithm, and the passes its schedules went through.
struct SurveySubject {
  std::string algorithm;
  std::string variant;  // "3 tiles, fused", as the table should call it
  std::function<bool(const Problem&)> supports;
  std::function<Schedule(const Problem&)> emit;
};

struct SurveyOptions {
  int world_size_min = 1;
  int world_size_max = 64;
};

// All world sizes of one subject and collective. Each is proved over links that hold nothing (what
// is free of deadlock there is so over any), in place and not; rooted collectives for the first,
// the middle and the last root.
struct SurveyRow {
  std::string algorithm;
  std::string variant;
  Collective collective = Collective::all_reduce;
  int worlds = 0;  // supported world sizes that were looked at
  std::int64_t proofs = 0;
  std::int64_t steps = 0;      // of all ranks, over all proofs
  std::int64_t messages = 0;   // the same
  std::string counterexample;  // of the first proof that failed, at which the row ends; else empty
  bool ok() const { return counterexample.empty(); }
};

// One row for each collective that a subject supports somewhere in the range, in the order of
// subjects. `finished`, if given, sees each row as soon as it is there.
std::vector<SurveyRow> survey(std::span<const SurveySubject> subjects, const SurveyOptions& options,
                              const std::function<void(const SurveyRow&)>& finished = {});

}  // namespace weft::comm
