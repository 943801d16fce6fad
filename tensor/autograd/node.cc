#include "tensor/autograd/node.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "kernels/base/check.h"
#include "tensor/tensor_impl.h"

namespace weft::tensor::autograd {
namespace {

thread_local bool grad_mode = true;

std::shared_ptr<Region>& region() {
  static thread_local std::shared_ptr<Region> of_this_thread;
  return of_this_thread;
}

std::uint64_t next_sequence() {
  static std::atomic<std::uint64_t> counter{0};
  return counter.fetch_add(1, std::memory_order_relaxed);
}

Node::Edge edge_to(const Tensor& input) {
  if (!input.requires_grad()) return {};
  if (input.impl()->node) return {input.impl()->node, nullptr};
  return {nullptr, input.shared_impl()};
}

}  // namespace

bool grad_enabled() { return grad_mode; }

NoGrad::NoGrad() : previous_(grad_mode) { grad_mode = false; }
NoGrad::~NoGrad() { grad_mode = previous_; }
RegionScope::RegionScope(std::shared_ptr<Region> entered)
    : previous_(std::exchange(region(), std::move(entered))) {}
RegionScope::~RegionScope() { region() = std::move(previous_); }

EnableGrad::EnableGrad() : previous_(grad_mode) { grad_mode = true; }
EnableGrad::~EnableGrad() { grad_mode = previous_; }

bool should_record(std::span<const Tensor> inputs) {
  return grad_mode && std::any_of(inputs.begin(), inputs.end(),
                                  [](const Tensor& input) { return input.requires_grad(); });
}

Tensor record(std::string_view name, Tensor output, std::vector<Tensor> inputs, Backward backward) {
  if (!should_record(inputs)) return output;
  auto& impl = require_defined(output, name);
  WEFT_ASSERT(!impl.requires_grad(), "an operation's output already has a history");
  auto node = std::make_shared<Node>();
  node->name = name;
  node->backward = std::move(backward);
  node->edges.reserve(inputs.size());
  for (const auto& input : inputs) node->edges.push_back(edge_to(input));
  node->shape = impl.shape;
  node->dtype = impl.dtype;
  node->device = output.device();
  if (node->device.type == DeviceType::cuda) node->stream = Stream::current(node->device);
  node->sequence = next_sequence();
  node->region = region();
  impl.node = std::move(node);
  return output;
}

Node::~Node() { release(); }

void Node::release() {
  backward = nullptr;
  for (auto& edge : edges) {
    if (edge.node) drop(std::move(edge.node));
  }
  edges.clear();
  released = true;
}

void drop(std::shared_ptr<Node> node) noexcept {
  // Destroying a node drops those before it; they queue here instead of nesting on the stack.
  static thread_local std::vector<std::shared_ptr<Node>>* queue = nullptr;
  if (node.use_count() > 1) return;
  if (queue != nullptr) {
    queue->push_back(std::move(node));
    return;
  }
  std::vector<std::shared_ptr<Node>> pending;
  queue = &pending;
  node.reset();
  while (!pending.empty()) {
    auto last = std::move(pending.back());
    pending.pop_back();
    last.reset();
  }
  queue = nullptr;
}

}  // namespace weft::tensor::autograd
