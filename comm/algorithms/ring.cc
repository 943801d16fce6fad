// The ring: each rank talks to its two neighbours only, r receives from r-1 and sends to r+1.
//
// Reduce-scatter, chunk c starts at rank c+1 and collects every rank's share on its way to rank c
// (4 ranks, the chunk each rank sends in each round):
//
//            rank 0    1    2    3
//   round 0      3 -> 0 -> 1 -> 2 ->     sends its own share
//   round 1      2 -> 3 -> 0 -> 1 ->     sends what came plus its own
//   round 2      1 -> 2 -> 3 -> 0 ->     and rank r ends with chunk r complete
//
// All-gather goes round once more, complete chunks being passed on:
//
//   round 0      0 -> 1 -> 2 -> 3 ->
//   round 1      3 -> 0 -> 1 -> 2 ->
//   round 2      2 -> 3 -> 0 -> 1 ->
//
// All-reduce is one after the other: 2(n-1) rounds of 1/n of the data, the least traffic there can
// be. Each chunk is completed on one rank and copied from there, so all ranks get the same bits.
// Source: Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of
// workstations", JPDC 69 (2009).
//
// Broadcast and reduce are chains along the ring, from the root round to its left neighbour and the
// other way round; cut into tiles they become pipelines.
#include "comm/algorithms/common.h"
#include "kernels/base/check.h"

namespace weft::comm {

namespace {

constexpr const char* kName = "ring";

struct Ring {
  explicit Ring(const Problem& problem) : n(problem.world_size), rank(problem.rank) {}
  int n;
  int rank;
  int left() const { return ring_rank(rank, -1, n); }
  int right() const { return ring_rank(rank, 1, n); }
  int at(int offset) const { return ring_rank(rank, offset, n); }
};

// Passes complete chunks on, from the rank's own in output[rank].
void gather_rounds(Builder& b, const Ring& ring, Slice own) {
  for (int round = 0; round + 1 < ring.n; ++round) {
    b.send(ring.right(), round == 0 ? own : b.output(ring.at(-round)));
    b.recv(ring.left(), b.output(ring.at(-round - 1)));
  }
}

Schedule all_reduce(const Problem& problem) {
  const Ring ring(problem);
  Builder b(problem, kName, ring.n);
  b.send(ring.right(), b.input(ring.left()));
  for (int round = 0; round + 2 < ring.n; ++round) {
    const int chunk = ring.at(-2 - round);
    b.recv_reduce(ring.left(), b.input(chunk), b.output(chunk), Completes::no);
    b.send(ring.right(), b.output(chunk));
  }
  b.recv_reduce(ring.left(), b.input(ring.rank), b.output(ring.rank), Completes::yes);
  gather_rounds(b, ring, b.output(ring.rank));
  return b.finish();
}

Schedule reduce_scatter(const Problem& problem) {
  const Ring ring(problem);
  Builder b(problem, kName, 1);
  b.send(ring.right(), b.input(ring.left()));
  for (int round = 0; round + 2 < ring.n; ++round) {
    const int chunk = ring.at(-2 - round);
    const Slice partial = b.new_scratch(chunk);
    b.recv_reduce(ring.left(), b.input(chunk), partial, Completes::no);
    b.send(ring.right(), partial);
  }
  b.recv_reduce(ring.left(), b.input(ring.rank), b.output(0), Completes::yes);
  return b.finish();
}

Schedule all_gather(const Problem& problem) {
  const Ring ring(problem);
  Builder b(problem, kName, 1);
  b.copy(b.input(0), b.output(ring.rank));
  gather_rounds(b, ring, b.input(0));
  return b.finish();
}

Schedule broadcast(const Problem& problem) {
  const Ring ring(problem);
  Builder b(problem, kName, 1);
  if (ring.rank != problem.root) b.recv(ring.left(), b.output(0));
  if (ring.right() != problem.root) b.send(ring.right(), b.output(0));
  return b.finish();
}

Schedule reduce(const Problem& problem) {
  const Ring ring(problem);
  Builder b(problem, kName, 1);
  if (ring.rank == problem.root) {
    b.recv_reduce(ring.left(), b.input(0), b.output(0), Completes::yes);
  } else if (ring.left() == problem.root) {
    b.send(ring.right(), b.input(0));
  } else {
    const Slice partial = b.new_scratch(0);
    b.recv_reduce(ring.left(), b.input(0), partial, Completes::no);
    b.send(ring.right(), partial);
  }
  return b.finish();
}

}  // namespace

bool ring_supports(const Problem& problem) {
  switch (problem.collective) {
    case Collective::all_reduce:
    case Collective::reduce_scatter:
    case Collective::all_gather:
    case Collective::broadcast:
    case Collective::reduce:
      return true;
    default:
      return false;
  }
}

Schedule emit_ring(const Problem& problem) {
  WEFT_ASSERT(ring_supports(problem), "ring is asked for what it supports");
  if (problem.world_size == 1) return emit_alone(problem, kName);
  switch (problem.collective) {
    case Collective::all_reduce:
      return all_reduce(problem);
    case Collective::reduce_scatter:
      return reduce_scatter(problem);
    case Collective::all_gather:
      return all_gather(problem);
    case Collective::broadcast:
      return broadcast(problem);
    default:
      return reduce(problem);
  }
}

}  // namespace weft::comm
