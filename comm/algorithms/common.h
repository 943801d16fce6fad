// What several algorithms share.
#pragma once

#include <cstdint>
#include <vector>

#include "comm/schedule/builder.h"
#include "comm/schedule/schedule.h"

namespace weft::comm {

// The rank `offset` places further round the ring, offset > -n.
inline int ring_rank(int rank, int offset, int n) {
  return static_cast<int>((static_cast<std::int64_t>(rank) + offset + n) % n);
}

// A piece of a run of chunks that may wrap round the end: `count` chunks from `chunk` on, which are
// number `index` and following of the run.
struct Run {
  int chunk = 0;
  int index = 0;
  int count = 0;
};

// `count` chunks from `first` (taken modulo n) on, cut where they wrap and where index `cut`
// begins. Both ends of a message get the same pieces from the same arguments.
std::vector<Run> runs(int first, int count, int n, int cut = 0);

// World size 1: the input is the result.
Schedule emit_alone(const Problem& problem, const char* algorithm);

// Entry points of the families; the table in algorithms.cc names them.
bool ring_supports(const Problem& problem);
Schedule emit_ring(const Problem& problem);
bool tree_supports(const Problem& problem);
Schedule emit_tree(const Problem& problem);
Schedule emit_binomial_gather(const Problem& problem, const char* algorithm);
Schedule emit_binomial_scatter(const Problem& problem, const char* algorithm);
bool halving_doubling_supports(const Problem& problem);
Schedule emit_halving_doubling(const Problem& problem);
bool recursive_doubling_supports(const Problem& problem);
Schedule emit_recursive_doubling(const Problem& problem);
bool direct_supports(const Problem& problem);
Schedule emit_direct(const Problem& problem);
bool two_shot_supports(const Problem& problem);
Schedule emit_two_shot(const Problem& problem);
// Only where Problem::hosts tells of at least two hosts, and of some host with at least two ranks.
bool hierarchical_supports(const Problem& problem);
Schedule emit_hierarchical(const Problem& problem);

}  // namespace weft::comm
