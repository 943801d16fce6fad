#include "comm/select/explain.h"

#include <algorithm>

#include "comm/algorithms/algorithms.h"
#include "kernels/base/error.h"

namespace weft::comm {

namespace {

bool shares_memory(Medium medium) { return medium == Medium::memory || medium == Medium::cuda; }

Candidate judge(const Algorithm& algorithm, const Problem& problem, Bytes bytes,
                const Tuning& tuning, Medium medium, bool crowded) {
  Candidate candidate{algorithm.name, true, 0, {}};
  if (!algorithm.supports(problem)) {
    candidate.possible = false;
    candidate.why = fmt::format("does no {} on these {} ranks", name_of(problem.collective),
                                problem.world_size);
  } else if (shares_memory(medium)) {
    const SharedCosts& costs = medium == Medium::cuda ? tuning.cuda : tuning.shared;
    const auto compared = candidates_on_memory(problem);
    if (std::find(compared.begin(), compared.end(), algorithm.name) != compared.end()) {
      candidate.seconds =
          deciding_seconds_on_memory(algorithm.name, problem, bytes, crowded, costs);
    } else {
      candidate.why = "not compared: on memory, passing data on only adds copies";
    }
  } else if (!fits_scratch(algorithm.name, problem, bytes)) {
    candidate.possible = false;
    candidate.why = "needs more than 64 MiB of scratch: one operand from each rank";
  } else {
    candidate.seconds =
        expected_seconds(algorithm.name, problem, bytes, tuning.costs(medium), tuning.memory);
  }
  return candidate;
}

}  // namespace

Choice choose_over(Medium medium, const Problem& problem, Bytes bytes, bool crowded,
                   const Tuning& tuning) {
  switch (medium) {
    case Medium::memory:
      return {choose_on_memory(problem, bytes, crowded, tuning), 1, false};
    case Medium::cuda:
      return {choose_on_cuda(problem, bytes, tuning), 1, false};
    default:
      return choose(problem, bytes, 1, medium, tuning);
  }
}

Explanation explain(const Problem& problem, Bytes bytes, const Tuning& tuning, Medium medium,
                    bool crowded) {
  Explanation told;
  const Bytes size = problem.collective == Collective::all_to_all ? Bytes(0) : bytes;
  told.choice = choose_over(medium, problem, bytes, crowded, tuning);
  const std::string_view measured = tuning.measured_choice(medium, problem, size);
  const bool by_table = !measured.empty() && measured == told.choice.algorithm;
  told.rule = by_table ? fmt::format("measured: the fastest at this size over {} with {} ranks",
                                     name_of(medium), problem.world_size)
                       : "the model: the least expected time";
  told.source = tuning.source;
  double least = 0;
  for (const Algorithm& algorithm : algorithms()) {
    told.candidates.push_back(judge(algorithm, problem, size, tuning, medium, crowded));
    const double seconds = told.candidates.back().seconds;
    if (seconds > 0 && (least == 0 || seconds < least)) least = seconds;
  }
  for (Candidate& candidate : told.candidates) {
    const bool chosen = candidate.algorithm == told.choice.algorithm;
    if (candidate.seconds > 0) {
      candidate.why = candidate.seconds == least
                          ? std::string("expected to be the fastest")
                          : fmt::format("{:.2f} x the fastest", candidate.seconds / least);
    }
    if (chosen) candidate.why = "chosen; " + (by_table ? told.rule : candidate.why);
  }
  return told;
}

}  // namespace weft::comm
