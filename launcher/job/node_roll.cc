#include "launcher/job/node_roll.h"

#include <fmt/format.h>

#include "launcher/job/launch_error.h"

namespace weft::launcher {

void NodeRoll::add(const NodeEntry& entry, const NodeEntry& main) {
  const auto who = [](const NodeEntry& e) { return fmt::format("node {} ({})", e.node, e.host); };
  // Counted as present even if refused, so that it hears why.
  const auto [before, is_new] = nodes_.emplace(entry.node, entry);
  if (entry.num_nodes != main.num_nodes) {
    refuse(kExitUsage, "{} was started with --num-nodes={}, but {} with --num-nodes={}", who(main),
           main.num_nodes, who(entry), entry.num_nodes);
  }
  if (!is_new) {
    refuse(kExitUsage, "two nodes were started with --node-rank={}: {} and {}", entry.node,
           before->second.host, entry.host);
  }
  if (entry.settings != main.settings) {
    refuse(kExitUsage, "nodes were started with different options: {} with {}, {} with {}",
           who(main), main.settings, who(entry), entry.settings);
  }
}

std::vector<int> NodeRoll::present() const {
  std::vector<int> nodes;
  for (const auto& [node, unused] : nodes_) nodes.push_back(node);
  return nodes;
}

std::string NodeRoll::missing() const {
  std::vector<int> absent;
  for (int node = 0; node < num_nodes_; ++node) {
    if (nodes_.count(node) == 0) absent.push_back(node);
  }
  std::string text = absent.size() == 1 ? "node " : "nodes ";
  for (std::size_t i = 0; i < absent.size(); ++i) {
    if (i > 0) text += i + 1 == absent.size() ? " and " : ", ";
    text += std::to_string(absent[i]);
  }
  return text + (absent.size() == 1 ? " has" : " have");
}

int NodeRoll::first_rank(int node) const {
  int rank = 0;
  for (const auto& [number, entry] : nodes_) {
    if (number < node) rank += entry.ranks;
  }
  return rank;
}

bool holds_guilty(const Outcome& outcome) {
  const RankEnd* end = outcome.verdict ? outcome.end_of(outcome.verdict->rank) : nullptr;
  return end != nullptr && !end->status.ok() && !end->killed_by_us;
}

void JobEnd::add(int, int exit_code, bool guilty) {
  if (exit_code == 0 || found_guilty_) return;
  if (guilty || exit_code_ == 0) exit_code_ = exit_code;
  found_guilty_ = guilty;
}

}  // namespace weft::launcher
