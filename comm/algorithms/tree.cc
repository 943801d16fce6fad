// The double binary tree: rank 0 (or the root) stands above two binary trees of the other ranks,
// and each tree carries half of the data. Who is inside one tree is a leaf of the other, so every
// rank sends and receives about as much as any other and both directions of its link are busy.
//
// Six ranks below the root, tree 0 in order, tree 1 its mirror image (with an odd number, tree 0
// shifted by one):
//
//               root                       root
//                | chunk 0                  | chunk 1
//                4                          3
//              /   \                      /   \.
//             2     6                    5     1
//            / \   /                    / \     \.
//           1   3 5                    6   4     2
//
//   reduce: up both trees       broadcast: down both trees       all_reduce: up, then down
//
// 2 log2(n) rounds for an all-reduce; cut into tiles both trees become pipelines. Sums are
// completed at the root of the trees only, so all ranks get the same bits. A barrier goes up and
// down tree 0. Source: Sanders, Speck and Traeff, "Two-tree algorithms for full bandwidth
// broadcast, reduction and scan", Parallel Computing 35 (2009).
#include <bit>

#include "comm/algorithms/common.h"
#include "kernels/base/check.h"

namespace weft::comm {

namespace {

constexpr const char* kName = "tree";
constexpr int kTrees = 2;

// One rank's place. Ranks; -1 where there is nobody.
struct Place {
  int parent = -1;
  int children[2] = {-1, -1};
};

// The in-order binary tree of positions 1..m: a position with k trailing zeros is k above the
// leaves. Subtrees that stick out beyond m are replaced by their left child. 0 stands for nobody,
// or, as parent of the topmost, for the root above.
int parent_position(int position, int m) {
  if (position == static_cast<int>(std::bit_floor(static_cast<unsigned>(m)))) return 0;
  int height = std::countr_zero(static_cast<unsigned>(position));
  do {
    const bool right = ((position >> (height + 1)) & 1) != 0;
    position += right ? -(1 << height) : (1 << height);
    ++height;
  } while (position > m);
  return position;
}

int left_position(int position) {
  const int height = std::countr_zero(static_cast<unsigned>(position));
  return height == 0 ? 0 : position - (1 << (height - 1));
}

int right_position(int position, int m) {
  int height = std::countr_zero(static_cast<unsigned>(position));
  if (height == 0) return 0;
  int child = position + (1 << --height);
  while (child > m && height > 0) child -= 1 << --height;
  return child > m ? 0 : child;
}

class DoubleTree {
 public:
  explicit DoubleTree(const Problem& problem)
      : n_(problem.world_size), top_(is_rooted(problem.collective) ? problem.root : 0) {}

  int top() const { return top_; }

  Place place(int rank, int tree) const {
    const int m = n_ - 1;
    const int label = ring_rank(rank, -top_, n_);
    Place place;
    if (label == 0) {
      const int first = static_cast<int>(std::bit_floor(static_cast<unsigned>(m)));
      place.children[0] = rank_at(first, tree);
      return place;
    }
    const int position = tree == 0 ? label : across(label);
    place.parent = rank_at(parent_position(position, m), tree);
    if (const int left = left_position(position)) place.children[0] = rank_at(left, tree);
    if (const int right = right_position(position, m)) place.children[1] = rank_at(right, tree);
    return place;
  }

 private:
  // Where label l stands in tree 1, so that even positions (inside) and odd ones (leaves) swap.
  int across(int label) const {
    const int m = n_ - 1;
    if (m % 2 == 0) return m + 1 - label;
    return label == 1 ? m : label - 1;
  }
  int rank_at(int position, int tree) const {
    const int m = n_ - 1;
    int label = position;
    if (tree == 1 && position > 0) {
      label = m % 2 == 0 ? m + 1 - position : (position == m ? 1 : position + 1);
    }
    return ring_rank(top_, label, n_);
  }

  int n_;
  int top_;
};

// Collects the chunk of this tree at the top, in its output.
void go_up(Builder& b, const Problem& problem, const DoubleTree& trees, int tree) {
  const Place place = trees.place(problem.rank, tree);
  const bool top = place.parent < 0;
  const bool reducing = is_reducing(problem.collective);
  Slice sum = b.input(tree);
  for (const int child : place.children) {
    if (child < 0) continue;
    Slice to = sum;
    if (sum.buffer == Buffer::input) {
      // An all-reduce may use its output on the way; a reduce has one at the root only.
      to = top || problem.collective == Collective::all_reduce ? b.output(tree)
                                                               : b.new_scratch(tree);
    }
    b.recv_reduce(child, sum, to, top && reducing ? Completes::yes : Completes::no);
    sum = to;
  }
  if (!top) b.send(place.parent, sum);
}

void go_down(Builder& b, const Problem& problem, const DoubleTree& trees, int tree) {
  const Place place = trees.place(problem.rank, tree);
  if (place.parent >= 0) b.recv(place.parent, b.output(tree));
  for (const int child : place.children) {
    if (child >= 0) b.send(child, b.output(tree));
  }
}

}  // namespace

bool tree_supports(const Problem& problem) {
  switch (problem.collective) {
    case Collective::all_reduce:
    case Collective::reduce:
    case Collective::broadcast:
    case Collective::barrier:
    case Collective::gather:
    case Collective::scatter:
      return true;
    default:
      return false;
  }
}

Schedule emit_tree(const Problem& problem) {
  WEFT_ASSERT(tree_supports(problem), "tree is asked for what it supports");
  if (problem.world_size == 1) return emit_alone(problem, kName);
  if (problem.collective == Collective::gather) return emit_binomial_gather(problem, kName);
  if (problem.collective == Collective::scatter) return emit_binomial_scatter(problem, kName);
  const DoubleTree trees(problem);
  const int used = problem.collective == Collective::barrier ? 1 : kTrees;
  Builder b(problem, kName, used);
  if (problem.collective != Collective::broadcast) {
    for (int tree = 0; tree < used; ++tree) go_up(b, problem, trees, tree);
  }
  if (problem.collective != Collective::reduce) {
    for (int tree = 0; tree < used; ++tree) go_down(b, problem, trees, tree);
  }
  return b.finish();
}

}  // namespace weft::comm
