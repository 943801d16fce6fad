// What collectives cost, and which algorithm to take, where ranks address each other's memory.
#include <array>

#include "comm/algorithms/algorithms.h"
#include "comm/select/select.h"
#include "kernels/base/check.h"

namespace weft::comm {

namespace {

constexpr std::array<std::string_view, 2> kShots = {"direct", "two_shot"};

}  // namespace

// One pass over everybody's buffers is the least there is to do; only all_reduce can share it out.
std::span<const std::string_view> candidates_on_memory(const Problem& problem) {
  const bool shares = problem.collective == Collective::all_reduce && problem.world_size > 1;
  return std::span(kShots).first(shares ? 2 : 1);
}

double expected_seconds_on_memory(std::string_view algorithm, const Problem& problem, Bytes bytes,
                                  bool crowded, const SharedCosts& costs, bool registered) {
  const double n = problem.world_size;
  const auto size = static_cast<double>(bytes.value);
  const double wait = crowded ? costs.wait_crowded : costs.wait;
  const double stage = registered ? 0 : costs.per_byte_stage;
  if (algorithm == "two_shot") {
    return 2 * wait + size * (stage + costs.per_byte_reduce) +
           size * (n - 1) / n * costs.per_byte_copy;
  }
  WEFT_ASSERT(algorithm == "direct", "one of candidates_on_memory()");
  switch (problem.collective) {
    case Collective::all_reduce:  // so small that it is always staged, the flag beside the data
      return wait + size * (costs.per_byte_stage + n * costs.per_byte_reduce);
    case Collective::reduce:
      return wait + size * (stage + n * costs.per_byte_reduce);
    case Collective::reduce_scatter:
      return wait + size * (stage + costs.per_byte_reduce);
    case Collective::broadcast:
      return wait + size * (stage + costs.per_byte_copy);
    case Collective::barrier:
      return wait;
    default:  // one block is staged, those of the others are copied
      return wait + size * (stage / n + costs.per_byte_copy);
  }
}

double deciding_seconds_on_memory(std::string_view algorithm, const Problem& problem, Bytes bytes,
                                  bool crowded, const SharedCosts& costs) {
  return (expected_seconds_on_memory(algorithm, problem, bytes, crowded, costs, false) +
          expected_seconds_on_memory(algorithm, problem, bytes, crowded, costs, true)) /
         2;
}

namespace {

std::string_view choose_among(const Problem& problem, Bytes bytes, bool crowded, Medium medium,
                              const SharedCosts& costs, const Tuning& tuning) {
  const bool blind = problem.collective == Collective::all_to_all;
  const Bytes size = blind ? Bytes(0) : bytes;
  const std::string_view measured = tuning.measured_choice(medium, problem, size);
  if (!measured.empty()) return measured;
  std::string_view best;
  double best_seconds = 0;
  for (const std::string_view name : candidates_on_memory(problem)) {
    const double expected = deciding_seconds_on_memory(name, problem, size, crowded, costs);
    if (!best.empty() && expected >= best_seconds) continue;
    best = name;
    best_seconds = expected;
  }
  return best;
}

}  // namespace

std::string_view choose_on_memory(const Problem& problem, Bytes bytes, bool crowded,
                                  const Tuning& tuning) {
  return choose_among(problem, bytes, crowded, Medium::memory, tuning.shared, tuning);
}

std::string_view choose_on_cuda(const Problem& problem, Bytes bytes, const Tuning& tuning) {
  return choose_among(problem, bytes, false, Medium::cuda, tuning.cuda, tuning);
}

}  // namespace weft::comm
