#include "tests/emulator/graph.h"

#include "tests/emulator/devices.h"
#include "tests/emulator/failure.h"

namespace weft::emulated {
namespace {

// One after the other, in an order that the dependencies allow: as captured, or, with
// latest_first(), the latest of those that may run first. A dependency that is missing shows
// in one of the two.
void run(const Captured& work) {
  const auto& nodes = work.nodes;
  if (!latest_first()) {
    for (const auto& node : nodes) {
      if (emulated::kept() == cudaSuccess) node.work.run();
    }
    return;
  }
  std::vector<std::size_t> waits(nodes.size());
  std::vector<std::vector<std::size_t>> followers(nodes.size());
  std::set<std::size_t> ready;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    waits[i] = nodes[i].after.size();
    for (const auto before : nodes[i].after) followers[before].push_back(i);
    if (waits[i] == 0) ready.insert(i);
  }
  while (!ready.empty()) {
    const auto last = std::prev(ready.end());
    const std::size_t now = *last;
    ready.erase(last);
    if (emulated::kept() == cudaSuccess) nodes[now].work.run();
    for (const auto next : followers[now]) {
      if (--waits[next] == 0) ready.insert(next);
    }
  }
}

}  // namespace
}  // namespace weft::emulated

using namespace weft::emulated;

extern "C" {

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* ready, cudaGraph_t graph, unsigned long long) {
  if (ready == nullptr || graph == nullptr) return say(cudaErrorInvalidValue);
  *ready = new GraphExec{std::make_shared<const Captured>(graph->work)};
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  if (graph == nullptr || count == nullptr) return say(cudaErrorInvalidValue);
  if (nodes != nullptr) {
    for (size_t i = 0; i < *count && i < graph->work.nodes.size(); ++i) {
      nodes[i] = &graph->work.nodes[i];
    }
  }
  *count = graph->work.nodes.size();
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t ready, cudaStream_t stream) {
  if (ready == nullptr) return say(cudaErrorInvalidValue);
  return enqueue(stream, {WorkKind::graph, [work = ready->work] { run(*work); }});
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t ready) {
  delete ready;
  return cudaSuccess;
}

}  // extern "C"
