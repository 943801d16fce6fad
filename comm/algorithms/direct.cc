// Direct: every pair that has something to say says it in one message, in one round.
//
//   all_reduce (one-shot)       0 <-> 1        everybody sends everything to everybody and folds
//                               | \ / |        what it has in the order of ranks, so that all get
//                               | / \ |        the same bits
//                               2 <-> 3
//
//   reduce, gather    1 2 3 -> 0               broadcast, scatter    0 -> 1 2 3
//
//   two_shot (all_reduce)       round 1: rank r gets chunk r of everybody and folds it
//                               round 2: rank r sends the complete chunk r to everybody
//
// One-shot moves n-1 times the data through each rank and is for small messages, where only the
// number of rounds counts; two-shot moves no more than a ring, in 2 rounds of n-1 messages. Peers
// are visited in the order r+1, r+2, ... so that not everybody speaks to the same rank first.
// Source: Thakur, Rabenseifner and Gropp, "Optimization of collective communication operations in
// MPICH", IJHPCA 19 (2005), sections 3 and 4.
#include <utility>

#include "comm/algorithms/common.h"
#include "kernels/base/check.h"

namespace weft::comm {

namespace {

constexpr const char* kDirect = "direct";
constexpr const char* kTwoShot = "two_shot";

// The operands of a fold in rank order: ours among what came from the others.
class Contributions {
 public:
  Contributions(const Problem& problem, Slice own)
      : slices_(static_cast<std::size_t>(problem.world_size)) {
    (*this)[problem.rank] = own;
  }
  Slice& operator[](int rank) { return slices_[static_cast<std::size_t>(rank)]; }
  std::vector<Slice> take() { return std::move(slices_); }

 private:
  std::vector<Slice> slices_;
};

Schedule all_reduce(const Problem& problem) {
  const int n = problem.world_size;
  Builder b(problem, kDirect, 1);
  Contributions shares(problem, b.input(0));
  for (int k = 1; k < n; ++k) b.send(ring_rank(problem.rank, k, n), b.input(0));
  for (int k = 1; k < n; ++k) {
    const int peer = ring_rank(problem.rank, -k, n);
    shares[peer] = b.new_scratch(0);
    b.recv(peer, shares[peer]);
  }
  b.reduce(shares.take(), b.output(0),
           problem.collective == Collective::all_reduce ? Completes::yes : Completes::no);
  return b.finish();
}

// Sends chunk d of the input to rank d and folds everybody's chunk of ours into `result`.
void scatter_round(Builder& b, const Problem& problem, Slice result) {
  const int n = problem.world_size;
  Contributions shares(problem, b.input(problem.rank));
  for (int k = 1; k < n; ++k) {
    const int to = ring_rank(problem.rank, k, n);
    b.send(to, b.input(to));
  }
  for (int k = 1; k < n; ++k) {
    const int peer = ring_rank(problem.rank, -k, n);
    shares[peer] = b.new_scratch(problem.rank);
    b.recv(peer, shares[peer]);
  }
  b.reduce(shares.take(), result, Completes::yes);
}

// Sends `own` to everybody and receives theirs into output.
void gather_round(Builder& b, const Problem& problem, Slice own) {
  const int n = problem.world_size;
  for (int k = 1; k < n; ++k) b.send(ring_rank(problem.rank, k, n), own);
  for (int k = 1; k < n; ++k) {
    const int peer = ring_rank(problem.rank, -k, n);
    b.recv(peer, b.output(peer));
  }
}

Schedule reduce_scatter(const Problem& problem) {
  Builder b(problem, kDirect, 1);
  scatter_round(b, problem, b.output(0));
  return b.finish();
}

Schedule all_gather(const Problem& problem) {
  Builder b(problem, kDirect, 1);
  b.copy(b.input(0), b.output(problem.rank));
  gather_round(b, problem, b.input(0));
  return b.finish();
}

Schedule all_to_all(const Problem& problem) {
  const int n = problem.world_size;
  Builder b(problem, kDirect, 1);
  for (int k = 1; k < n; ++k) {
    const int to = ring_rank(problem.rank, k, n);
    const int from = ring_rank(problem.rank, -k, n);
    b.send(to, b.input(to));
    b.recv(from, b.output(from));
  }
  b.copy(b.input(problem.rank), b.output(problem.rank));
  return b.finish();
}

// reduce and gather: everybody to the root.
Schedule to_root(const Problem& problem) {
  const int n = problem.world_size;
  Builder b(problem, kDirect, 1);
  if (problem.rank != problem.root) {
    b.send(problem.root, b.input(0));
    return b.finish();
  }
  const bool reducing = problem.collective == Collective::reduce;
  Contributions shares(problem, b.input(0));
  for (int k = 1; k < n; ++k) {
    const int peer = ring_rank(problem.rank, k, n);
    if (reducing) shares[peer] = b.new_scratch(0);
    b.recv(peer, reducing ? shares[peer] : b.output(peer));
  }
  if (reducing) {
    b.reduce(shares.take(), b.output(0), Completes::yes);
  } else {
    b.copy(b.input(0), b.output(problem.rank));
  }
  return b.finish();
}

// broadcast and scatter: the root to everybody.
Schedule from_root(const Problem& problem) {
  const int n = problem.world_size;
  Builder b(problem, kDirect, 1);
  if (problem.rank != problem.root) {
    b.recv(problem.root, b.output(0));
    return b.finish();
  }
  const bool scattering = problem.collective == Collective::scatter;
  for (int k = 1; k < n; ++k) {
    const int peer = ring_rank(problem.rank, k, n);
    b.send(peer, scattering ? b.input(peer) : b.output(0));
  }
  if (scattering) b.copy(b.input(problem.rank), b.output(0));
  return b.finish();
}

}  // namespace

bool direct_supports(const Problem& problem) {
  return static_cast<int>(problem.collective) < kScheduledCollectives;
}

Schedule emit_direct(const Problem& problem) {
  WEFT_ASSERT(direct_supports(problem), "direct is asked for what it supports");
  if (problem.world_size == 1) return emit_alone(problem, kDirect);
  switch (problem.collective) {
    case Collective::reduce_scatter:
      return reduce_scatter(problem);
    case Collective::all_gather:
      return all_gather(problem);
    case Collective::all_to_all:
      return all_to_all(problem);
    case Collective::reduce:
    case Collective::gather:
      return to_root(problem);
    case Collective::broadcast:
    case Collective::scatter:
      return from_root(problem);
    default:
      return all_reduce(problem);  // and the barrier, which is one of nothing
  }
}

bool two_shot_supports(const Problem& problem) {
  return problem.collective == Collective::all_reduce;
}

Schedule emit_two_shot(const Problem& problem) {
  WEFT_ASSERT(two_shot_supports(problem), "two_shot is asked for what it supports");
  if (problem.world_size == 1) return emit_alone(problem, kTwoShot);
  Builder b(problem, kTwoShot, problem.world_size);
  scatter_round(b, problem, b.output(problem.rank));
  gather_round(b, problem, b.output(problem.rank));
  return b.finish();
}

}  // namespace weft::comm
