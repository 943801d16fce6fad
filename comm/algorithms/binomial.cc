// The binomial tree, for gather and scatter: log2(n) rounds, each doubling what is held together.
// With v = rank - root (modulo n), v's parent lacks v's lowest one bit, and v stands for the blocks
// of v .. v + lowbit(v) - 1:
//
//   0                      gather, 8 ranks:   round 1: 1->0  3->2  5->4  7->6
//   |-- 1                                     round 2: 2->0  6->4      (2 blocks each)
//   |-- 2 -- 3                                round 3: 4->0            (4 blocks)
//   `-- 4 -- 5
//       `--- 6 -- 7        scatter runs the same backwards
//
// For small blocks: inner ranks hold (and copy) the blocks of their whole subtree, in scratch. A
// run of blocks that wraps round rank n-1 goes in two messages.
// Source: Chan, Heimlich, Purkayastha and van de Geijn, "Collective communication: theory,
// practice, and experience", Concurrency and Computation 19 (2007).
#include <algorithm>

#include "comm/algorithms/common.h"

namespace weft::comm {

namespace {

class Binomial {
 public:
  explicit Binomial(const Problem& problem)
      : n_(problem.world_size),
        root_(problem.root),
        v_(ring_rank(problem.rank, -problem.root, problem.world_size)) {}

  bool is_root() const { return v_ == 0; }
  int blocks() const { return blocks_of(v_); }  // in this rank's subtree, its own first
  int parent() const { return rank_of(v_ & (v_ - 1)); }
  std::vector<Run> own_runs() const { return runs(rank_of(v_), blocks(), n_); }

  struct Child {
    int rank;
    int offset;  // of its first block from this rank's own
    std::vector<Run> runs;
  };
  std::vector<Child> children() const {  // smallest first
    std::vector<Child> found;
    for (int bit = 1; bit < n_ && (v_ & bit) == 0 && v_ + bit < n_; bit <<= 1) {
      const int child = v_ + bit;
      found.push_back({rank_of(child), bit, runs(rank_of(child), blocks_of(child), n_)});
    }
    return found;
  }

 private:
  int rank_of(int v) const { return ring_rank(root_, v, n_); }
  int blocks_of(int v) const { return v == 0 ? n_ : std::min(v & -v, n_ - v); }

  int n_;
  int root_;
  int v_;
};

Slice part(Slice whole, int offset, int count) {
  return {whole.buffer, whole.chunk + offset, count};
}

// Scratch for the blocks of this rank's subtree, in the order of the tree.
Slice subtree_scratch(Builder& b, const Binomial& tree) {
  Slice all;
  for (const Run& run : tree.own_runs()) {
    const Slice piece = b.new_scratch(run.chunk, run.count);
    if (all.count == 0) all = {piece.buffer, piece.chunk, 0};
    all.count += run.count;
  }
  return all;
}

}  // namespace

Schedule emit_binomial_gather(const Problem& problem, const char* algorithm) {
  Builder b(problem, algorithm, 1);
  const Binomial tree(problem);
  if (!tree.is_root() && tree.blocks() == 1) {
    b.send(tree.parent(), b.input(0));
    return b.finish();
  }
  const Slice held = tree.is_root() ? Slice{} : subtree_scratch(b, tree);
  b.copy(b.input(0), tree.is_root() ? b.output(problem.rank) : part(held, 0, 1));
  for (const Binomial::Child& child : tree.children()) {
    for (const Run& run : child.runs) {
      b.recv(child.rank, tree.is_root() ? b.output(run.chunk, run.count)
                                        : part(held, child.offset + run.index, run.count));
    }
  }
  if (tree.is_root()) return b.finish();
  for (const Run& run : tree.own_runs()) b.send(tree.parent(), part(held, run.index, run.count));
  return b.finish();
}

Schedule emit_binomial_scatter(const Problem& problem, const char* algorithm) {
  Builder b(problem, algorithm, 1);
  const Binomial tree(problem);
  if (!tree.is_root() && tree.blocks() == 1) {
    b.recv(tree.parent(), b.output(0));
    return b.finish();
  }
  const Slice held = tree.is_root() ? Slice{} : subtree_scratch(b, tree);
  if (!tree.is_root()) {
    for (const Run& run : tree.own_runs()) b.recv(tree.parent(), part(held, run.index, run.count));
  }
  const auto children = tree.children();
  for (auto child = children.rbegin(); child != children.rend(); ++child) {
    for (const Run& run : child->runs) {
      b.send(child->rank, tree.is_root() ? b.input(run.chunk, run.count)
                                         : part(held, child->offset + run.index, run.count));
    }
  }
  b.copy(tree.is_root() ? b.input(problem.rank) : part(held, 0, 1), b.output(0));
  return b.finish();
}

}  // namespace weft::comm
