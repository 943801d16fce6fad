// Values of the symbolic run: expression trees, each stored once, so that equal trees are equal
// numbers.
//
// A leaf is one rank's contribution to one chunk. Two-input nodes do not know left from right
// (weft's operators are commutative to the bit); a reduction of more inputs is an ordered fold, and
// something else than a chain of two-input ones, since halves are rounded once at its end.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace weft::comm {

using NodeId = std::int32_t;
inline constexpr NodeId kUnwritten = -1;

class Expressions {
 public:
  Expressions(std::int32_t ranks, std::int32_t chunks);  // chunks that each rank contributes

  NodeId leaf(std::int32_t rank, std::int32_t chunk) const { return rank * chunks_ + chunk; }
  bool is_leaf(NodeId node) const { return node < leaves_; }
  std::int32_t rank_of_leaf(NodeId node) const { return node / chunks_; }
  std::int32_t chunk_of_leaf(NodeId node) const { return node % chunks_; }

  NodeId combine(std::span<const NodeId> inputs);

  // Contributions in a value, the same one counted as often as it is in there (at most 2^40).
  std::int64_t leaf_count(NodeId node) const;
  // The different leaves of a value, in ascending order.
  std::vector<NodeId> leaves_of(NodeId node) const;

 private:
  struct Node {
    std::int64_t first;  // where its inputs begin in inputs_
    std::int64_t leaf_count;
    std::int32_t inputs;
  };
  std::span<const NodeId> inputs_of(NodeId node) const;
  void grow();

  std::int32_t chunks_;
  std::int32_t leaves_;
  std::vector<Node> nodes_;  // node id - leaves_
  std::vector<NodeId> inputs_;
  std::vector<NodeId> table_;  // open addressing, kUnwritten where free
};

}  // namespace weft::comm
