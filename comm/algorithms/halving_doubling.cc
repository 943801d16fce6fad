// Halving and doubling for any number of ranks, on circulant graphs: in each round every rank talks
// to the rank a fixed distance away. Distances come from halving n, rounding up:
//
//   n = 6:  6 -> 3 -> 2 -> 1
//
// Reduce-scatter (relative chunk i of rank r is chunk r + i; all counts modulo n):
//
//   distance 3:  r sends relative 3 4 5 to r+3   (its relative 0 1 2)    0 1 2 left
//   distance 2:  r sends relative 2     to r+2   (its relative 0)        0 1 left
//   distance 1:  r sends relative 1     to r+1   (its relative 0)        0 is complete
//
// All-gather runs the same backwards with complete chunks, all-reduce is one after the other: for
// every n, ceil(log2 n) rounds each way and (n-1)/n of the data, both the least there can be. A run
// of chunks that wraps round n-1, or of which only part has been summed yet, goes in two messages.
// Each chunk is completed on one rank and copied from there, so all ranks get the same bits.
// Source: Traeff, "Optimal, non-pipelined reduce-scatter and allreduce algorithms",
// arXiv:2410.14234 (2024); for powers of two see Thakur, Rabenseifner and Gropp (2005).
//
// Barrier by dissemination: in round k, r tells r + 2^k what it has heard of.
// Source: Hensgen, Finkel and Manber, "Two algorithms for barrier synchronization", IJPP 17 (1988).
#include <algorithm>

#include "comm/algorithms/common.h"
#include "kernels/base/check.h"

namespace weft::comm {

namespace {

constexpr const char* kName = "halving_doubling";

struct Round {
  int distance;
  int count;  // chunks each rank sends
};

std::vector<Round> halving(int n) {
  std::vector<Round> rounds;
  while (n > 1) {
    const int half = (n + 1) / 2;
    rounds.push_back({half, n - half});
    n = half;
  }
  return rounds;
}

// `sums` holds the partial sums of the relative chunks 0 .. rounds[0].count - 1; as output chunks
// they lie in the order of chunks, as scratch in relative order.
class Sums {
 public:
  Sums(Builder& b, const Problem& problem, int count) : builder_(b), problem_(problem) {
    if (problem.collective == Collective::all_reduce) return;
    bool first = true;
    for (const Run& run : runs(problem.rank, count, problem.world_size)) {
      const Slice piece = b.new_scratch(run.chunk, run.count);
      if (first) base_ = piece.chunk;
      first = false;
    }
  }
  // `offset`: of the run's beginning from relative chunk 0.
  Slice at(const Run& run, int offset) const {
    if (problem_.collective == Collective::all_reduce) {
      return builder_.output(run.chunk, run.count);
    }
    return {Buffer::scratch, base_ + offset + run.index, run.count};
  }

 private:
  Builder& builder_;
  const Problem& problem_;
  int base_ = 0;
};

void scatter_rounds(Builder& b, const Problem& problem, Slice result) {
  const int n = problem.world_size;
  const int rank = problem.rank;
  const std::vector<Round> rounds = halving(n);
  // The last round writes the result itself, so with one round there are no partial sums.
  const Sums sums(b, problem, rounds.size() > 1 ? rounds.front().count : 0);
  int summed = 0;  // relative chunks 0 .. summed-1 are in `sums`, the others still in the input
  for (const auto& [distance, count] : rounds) {
    const int cut = summed - distance;  // both ends cut where the sender's sums end
    for (const Run& run : runs(ring_rank(rank, distance, n), count, n, cut)) {
      const Slice from = run.index < cut ? sums.at(run, distance) : b.input(run.chunk, run.count);
      b.send(ring_rank(rank, distance, n), from);
    }
    const bool last = distance == 1;
    for (const Run& run : runs(rank, count, n, cut)) {
      WEFT_ASSERT(summed == 0 || count <= summed, "rounds shrink");
      const Slice from = summed > 0 ? sums.at(run, 0) : b.input(run.chunk, run.count);
      b.recv_reduce(ring_rank(rank, -distance, n), from, last ? result : sums.at(run, 0),
                    last ? Completes::yes : Completes::no);
    }
    summed = std::max(summed, count);
  }
}

// `own` holds this rank's chunk, too; together with others it is read from output[rank].
void gather_rounds(Builder& b, const Problem& problem, Slice own) {
  const int n = problem.world_size;
  const int rank = problem.rank;
  std::vector<Round> rounds = halving(n);
  std::reverse(rounds.begin(), rounds.end());
  for (const auto& [distance, count] : rounds) {
    for (const Run& run : runs(rank, count, n)) {
      const bool own_alone = run.chunk == rank && run.count == 1;
      b.send(ring_rank(rank, -distance, n), own_alone ? own : b.output(run.chunk, run.count));
    }
    for (const Run& run : runs(ring_rank(rank, distance, n), count, n)) {
      b.recv(ring_rank(rank, distance, n), b.output(run.chunk, run.count));
    }
  }
}

Schedule barrier(const Problem& problem) {
  const int n = problem.world_size;
  Builder b(problem, kName, 1);
  Slice heard = b.input(0);
  for (int distance = 1; distance < n; distance *= 2) {
    const Slice next = 2 * distance < n ? b.new_scratch(0) : b.output(0);
    b.send(ring_rank(problem.rank, distance, n), heard);
    b.recv_reduce(ring_rank(problem.rank, -distance, n), heard, next, Completes::no);
    heard = next;
  }
  return b.finish();
}

}  // namespace

bool halving_doubling_supports(const Problem& problem) {
  switch (problem.collective) {
    case Collective::all_reduce:
    case Collective::reduce_scatter:
    case Collective::all_gather:
    case Collective::barrier:
      return true;
    default:
      return false;
  }
}

Schedule emit_halving_doubling(const Problem& problem) {
  WEFT_ASSERT(halving_doubling_supports(problem), "halving_doubling is asked for what it supports");
  if (problem.world_size == 1) return emit_alone(problem, kName);
  if (problem.collective == Collective::barrier) return barrier(problem);
  const int chunks = problem.collective == Collective::all_reduce ? problem.world_size : 1;
  Builder b(problem, kName, chunks);
  switch (problem.collective) {
    case Collective::all_reduce:
      scatter_rounds(b, problem, b.output(problem.rank));
      gather_rounds(b, problem, b.output(problem.rank));
      break;
    case Collective::reduce_scatter:
      scatter_rounds(b, problem, b.output(0));
      break;
    default:
      b.copy(b.input(0), b.output(problem.rank));
      gather_rounds(b, problem, b.input(0));
  }
  return b.finish();
}

}  // namespace weft::comm
