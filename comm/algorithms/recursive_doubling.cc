// Recursive doubling: in round k, ranks whose numbers differ in bit k exchange all they have and
// both add it up. log2(n) rounds of the whole data: for small messages among many ranks.
//
//   4 ranks    0 1 2 3        round 0: 0-1 2-3
//              |-| |-|        round 1: 0-2 1-3
//              |---|
//                |---|        both sides of a pair add the same two values, and a + b is b + a to
//                             the bit, so all ranks end with the same bits
//
// With p the largest power of two in n, rank p + i first gives its data to rank i, stands by, and
// gets the sum from it in the end.
// Source: Thakur, Rabenseifner and Gropp, "Optimization of collective communication operations in
// MPICH", IJHPCA 19 (2005), section 4.
#include <bit>

#include "comm/algorithms/common.h"
#include "kernels/base/check.h"

namespace weft::comm {

namespace {

constexpr const char* kName = "recursive_doubling";

}  // namespace

bool recursive_doubling_supports(const Problem& problem) {
  return problem.collective == Collective::all_reduce;
}

Schedule emit_recursive_doubling(const Problem& problem) {
  WEFT_ASSERT(recursive_doubling_supports(problem), "asked for what it supports");
  const int n = problem.world_size;
  const int rank = problem.rank;
  if (n == 1) return emit_alone(problem, kName);
  const int core = static_cast<int>(std::bit_floor(static_cast<unsigned>(n)));
  Builder b(problem, kName, 1);
  if (rank >= core) {
    b.send(rank - core, b.input(0));
    b.recv(rank - core, b.output(0));
    return b.finish();
  }
  // What is being sent is not written over, so a round writes where the one before did not. The
  // input may be the output's memory, so the output has to wait for the last round.
  const Slice halves[2] = {b.new_scratch(0), b.new_scratch(0)};
  int turn = 0;
  Slice sum = b.input(0);
  if (rank + core < n) {
    b.recv_reduce(rank + core, sum, halves[turn], Completes::no);
    sum = halves[turn];
    turn = 1 - turn;
  }
  for (int bit = 1; bit < core; bit *= 2) {
    const int peer = rank ^ bit;
    const bool last = 2 * bit == core;
    const Slice next = halves[turn];
    b.send(peer, sum);
    if (last && sum.buffer == Buffer::input) {
      b.recv(peer, next);
      b.reduce({sum, next}, b.output(0), Completes::yes);
      break;
    }
    b.recv_reduce(peer, sum, last ? b.output(0) : next, last ? Completes::yes : Completes::no);
    sum = next;
    turn = 1 - turn;
  }
  if (rank + core < n) b.send(rank + core, b.output(0));
  return b.finish();
}

}  // namespace weft::comm
