// Which nodes have come, what they said, and how ranks are numbered among them. Pure.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "launcher/job/supervisor.h"

namespace weft::launcher {

struct NodeEntry {
  int node = 0;
  int num_nodes = 1;
  int ranks = 1;  // on this node; nodes may differ
  std::string host;
  std::string settings;
};

class NodeRoll {
 public:
  explicit NodeRoll(int num_nodes) : num_nodes_(num_nodes) {}

  // Throws LaunchError (exit code 2) if it does not fit what node 0 was told, or came before.
  void add(const NodeEntry& entry, const NodeEntry& main);

  std::vector<int> present() const;
  std::string missing() const;     // "node 2 has", "nodes 1, 3 and 4 have"
  int first_rank(int node) const;  // ranks are numbered node by node
  int world_size() const { return first_rank(num_nodes_); }

 private:
  int num_nodes_;
  std::map<int, NodeEntry> nodes_;
};

// Whether this node ran the rank that the verdict names, and saw it fail.
bool holds_guilty(const Outcome& outcome);

// The job's exit code from those of the nodes: that of the node with the rank at fault, else the
// first that is not 0.
class JobEnd {
 public:
  void add(int node, const Outcome& outcome) {
    add(node, outcome.exit_code(), holds_guilty(outcome));
  }
  void add(int node, int exit_code, bool guilty);
  int exit_code() const { return exit_code_; }

 private:
  int exit_code_ = 0;
  bool found_guilty_ = false;
};

}  // namespace weft::launcher
