#include "comm/algorithms/algorithms.h"

#include <algorithm>
#include <iterator>

#include "comm/algorithms/common.h"
#include "comm/schedule/algorithm_names.h"
#include "kernels/base/check.h"

namespace weft::comm {

namespace {

constexpr Algorithm kAlgorithms[] = {
    {kAlgorithmNames[0], ring_supports, emit_ring},
    {kAlgorithmNames[1], tree_supports, emit_tree},
    {kAlgorithmNames[2], halving_doubling_supports, emit_halving_doubling},
    {kAlgorithmNames[3], direct_supports, emit_direct, false},
    {kAlgorithmNames[4], two_shot_supports, emit_two_shot},
    {kAlgorithmNames[5], recursive_doubling_supports, emit_recursive_doubling, false},
    {kAlgorithmNames[6], hierarchical_supports, emit_hierarchical},
};
static_assert(std::size(kAlgorithms) == kAlgorithmNames.size());

}  // namespace

std::span<const Algorithm> algorithms() { return kAlgorithms; }

const Algorithm* find_algorithm(std::string_view name) {
  for (const Algorithm& algorithm : kAlgorithms) {
    if (algorithm.name == name) return &algorithm;
  }
  return nullptr;
}

std::vector<Run> runs(int first, int count, int n, int cut) {
  std::vector<Run> pieces;
  first %= n;
  int index = 0;
  while (index < count) {
    const int chunk = (first + index) % n;
    int end = std::min(count, index + (n - chunk));  // the wrap
    if (index < cut && cut < end) end = cut;
    pieces.push_back({chunk, index, end - index});
    index = end;
  }
  return pieces;
}

Schedule emit_alone(const Problem& problem, const char* algorithm) {
  WEFT_ASSERT(problem.world_size == 1, "alone");
  Builder b(problem, algorithm, 1);
  if (problem.collective != Collective::broadcast) b.copy(b.input(0), b.output(0));
  return b.finish();
}

}  // namespace weft::comm
