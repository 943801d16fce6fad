#include "comm/verify/expressions.h"

#include <algorithm>
#include <limits>

#include "kernels/base/check.h"

namespace weft::comm {

namespace {

constexpr std::int64_t kManyLeaves = std::int64_t{1} << 40;

std::uint64_t hash_of(std::span<const NodeId> inputs) {
  std::uint64_t hash = 0x9e3779b97f4a7c15u;
  for (const NodeId input : inputs) {
    hash ^= static_cast<std::uint32_t>(input);
    hash *= 0xff51afd7ed558ccdu;
    hash ^= hash >> 32;
  }
  return hash;
}

}  // namespace

Expressions::Expressions(std::int32_t ranks, std::int32_t chunks) : chunks_(chunks) {
  const std::int64_t leaves = std::int64_t{ranks} * chunks;
  WEFT_ASSERT(leaves < std::numeric_limits<NodeId>::max() / 2, "leaves can be numbered");
  leaves_ = static_cast<std::int32_t>(leaves);
  table_.assign(1024, kUnwritten);
}

std::span<const NodeId> Expressions::inputs_of(NodeId node) const {
  const Node& found = nodes_[static_cast<std::size_t>(node - leaves_)];
  return {inputs_.data() + found.first, static_cast<std::size_t>(found.inputs)};
}

std::int64_t Expressions::leaf_count(NodeId node) const {
  return is_leaf(node) ? 1 : nodes_[static_cast<std::size_t>(node - leaves_)].leaf_count;
}

void Expressions::grow() {
  std::vector<NodeId> old(table_.size() * 2, kUnwritten);
  old.swap(table_);
  for (const NodeId node : old) {
    if (node == kUnwritten) continue;
    std::size_t slot = hash_of(inputs_of(node)) & (table_.size() - 1);
    while (table_[slot] != kUnwritten) slot = (slot + 1) & (table_.size() - 1);
    table_[slot] = node;
  }
}

NodeId Expressions::combine(std::span<const NodeId> given) {
  if (given.size() == 1) return given.front();
  NodeId pair[2];
  std::span<const NodeId> inputs = given;
  if (given.size() == 2) {
    pair[0] = std::min(given[0], given[1]);
    pair[1] = std::max(given[0], given[1]);
    inputs = pair;
  }
  std::size_t slot = hash_of(inputs) & (table_.size() - 1);
  while (table_[slot] != kUnwritten) {
    if (std::ranges::equal(inputs_of(table_[slot]), inputs)) return table_[slot];
    slot = (slot + 1) & (table_.size() - 1);
  }
  Node node{static_cast<std::int64_t>(inputs_.size()), 0, static_cast<std::int32_t>(inputs.size())};
  for (const NodeId input : inputs) {
    node.leaf_count = std::min(kManyLeaves, node.leaf_count + leaf_count(input));
  }
  inputs_.insert(inputs_.end(), inputs.begin(), inputs.end());
  nodes_.push_back(node);
  const auto id = static_cast<NodeId>(leaves_ + static_cast<std::int32_t>(nodes_.size()) - 1);
  table_[slot] = id;
  if (nodes_.size() * 2 > table_.size()) grow();
  return id;
}

std::vector<NodeId> Expressions::leaves_of(NodeId root) const {
  std::vector<NodeId> leaves;
  std::vector<NodeId> open{root};
  std::vector<bool> seen(nodes_.size());
  while (!open.empty()) {
    const NodeId node = open.back();
    open.pop_back();
    if (is_leaf(node)) {
      leaves.push_back(node);
      continue;
    }
    const auto index = static_cast<std::size_t>(node - leaves_);
    if (seen[index]) continue;
    seen[index] = true;
    const std::span<const NodeId> inputs = inputs_of(node);
    open.insert(open.end(), inputs.begin(), inputs.end());
  }
  std::sort(leaves.begin(), leaves.end());
  leaves.erase(std::unique(leaves.begin(), leaves.end()), leaves.end());
  return leaves;
}

}  // namespace weft::comm
