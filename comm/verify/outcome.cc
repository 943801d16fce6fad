#include "comm/verify/outcome.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace weft::comm {

std::int32_t Outcome::contributed_chunks() const {
  const bool broadcast = problem_.collective == Collective::broadcast;
  return block_count(problem_, broadcast ? Buffer::output : Buffer::input) * chunks_per_block_;
}

Outcome::Outcome(const Problem& problem, std::int32_t chunks_per_block)
    : problem_(problem),
      chunks_per_block_(chunks_per_block),
      expressions_(problem.world_size, contributed_chunks()) {
  if (is_reducing(problem.collective)) {
    asked_.resize(static_cast<std::size_t>(contributed_chunks()));
    agreed_.resize(asked_.size(), kUnwritten);
  }
}

void Outcome::put_contributions(std::int32_t rank,
                                const std::function<void(Slice, NodeId)>& put) const {
  const bool root = rank == problem_.root;
  const bool broadcast = problem_.collective == Collective::broadcast;
  if ((broadcast || problem_.collective == Collective::scatter) && !root) return;
  const Buffer buffer = broadcast ? Buffer::output : Buffer::input;
  for (std::int32_t chunk = 0; chunk < contributed_chunks(); ++chunk) {
    put({buffer, chunk, 1}, expressions_.leaf(rank, chunk));
  }
}

bool Outcome::is_complete(NodeId value, std::int32_t chunk) {
  // Cheap, and enough to tell partial sums: that many contributions must be in it.
  if (expressions_.leaf_count(value) != problem_.world_size) return false;
  Known& known = asked_[static_cast<std::size_t>(chunk)];
  if (known.value == value) return known.complete;
  // n contributions, n different ones, of n ranks: each once.
  const std::vector<NodeId> leaves = expressions_.leaves_of(value);
  bool complete = std::ssize(leaves) == problem_.world_size;
  for (std::int32_t rank = 0; complete && rank < problem_.world_size; ++rank) {
    complete = leaves[static_cast<std::size_t>(rank)] == expressions_.leaf(rank, chunk);
  }
  known = {value, complete};
  return complete;
}

void Outcome::check_result(std::int32_t rank, const std::function<NodeId(Slice)>& get) {
  const std::int32_t cut = chunks_per_block_;
  const bool root = rank == problem_.root;
  switch (problem_.collective) {
    case Collective::reduce:
    case Collective::gather:
      if (!root) return;
      break;
    default:
      break;
  }
  for (std::int32_t c = 0; c < block_count(problem_, Buffer::output) * cut; ++c) {
    const Slice slice{Buffer::output, c, 1};
    const NodeId value = get(slice);
    const std::int32_t block = c / cut;
    const std::int32_t own = rank * cut + c % cut;
    switch (problem_.collective) {
      case Collective::all_reduce:
      case Collective::reduce:
        check_sum(rank, slice, c, value);
        break;
      case Collective::reduce_scatter:
        check_sum(rank, slice, own, value);
        break;
      case Collective::barrier:
        check_barrier(rank, value);
        break;
      case Collective::broadcast:
        check_copy(rank, slice, value, expressions_.leaf(problem_.root, c));
        break;
      case Collective::scatter:
        check_copy(rank, slice, value, expressions_.leaf(problem_.root, own));
        break;
      case Collective::all_to_all:
        check_copy(rank, slice, value, expressions_.leaf(block, own));
        break;
      default:  // gather, all_gather
        check_copy(rank, slice, value, expressions_.leaf(block, c % cut));
    }
  }
}

void Outcome::check_sum(std::int32_t rank, Slice slice, std::int32_t chunk, NodeId value) {
  if (value == kUnwritten || !is_complete(value, chunk)) {
    throw Refuted{
        fmt::format("rank {}'s out[{}] must hold in[{}] of all ranks, each once, and is {}", rank,
                    slice.chunk, chunk, describe(value))};
  }
  NodeId& agreed = agreed_[static_cast<std::size_t>(chunk)];
  if (agreed == kUnwritten) agreed = value;
  if (agreed != value) {
    throw Refuted{fmt::format(
        "rank {}'s out[{}] is summed in another order than on ranks before it: bits would differ",
        rank, slice.chunk)};
  }
}

void Outcome::check_copy(std::int32_t rank, Slice slice, NodeId value, NodeId wanted) const {
  if (value == wanted) return;
  throw Refuted{fmt::format("rank {}'s out[{}] must hold {}, and is {}", rank, slice.chunk,
                            describe(wanted), describe(value))};
}

void Outcome::check_barrier(std::int32_t rank, NodeId value) const {
  if (value != kUnwritten && std::ssize(expressions_.leaves_of(value)) == problem_.world_size)
    return;
  throw Refuted{
      fmt::format("rank {} leaves the barrier having heard of {}", rank, describe(value))};
}

std::string Outcome::describe(NodeId value) const {
  if (value == kUnwritten) return "never written";
  const std::vector<NodeId> leaves = expressions_.leaves_of(value);
  std::vector<std::int32_t> chunks;
  for (const NodeId leaf : leaves) chunks.push_back(expressions_.chunk_of_leaf(leaf));
  std::sort(chunks.begin(), chunks.end());
  chunks.erase(std::unique(chunks.begin(), chunks.end()), chunks.end());
  std::string text;
  for (const std::int32_t chunk : chunks) {
    if (!text.empty()) text += " and ";
    fmt::format_to(std::back_inserter(text), "in[{}] of ranks", chunk);
    for (const NodeId leaf : leaves) {
      if (expressions_.chunk_of_leaf(leaf) != chunk) continue;
      fmt::format_to(std::back_inserter(text), " {}", expressions_.rank_of_leaf(leaf));
    }
  }
  if (std::ssize(leaves) < expressions_.leaf_count(value)) text += ", some more than once";
  return text;
}

}  // namespace weft::comm
