// Backward: a walk over the graph that counts how often each node is used, then the nodes in
// reverse order of their making, each once all its uses have been accounted for. No recursion.
//
// On CUDA each node's backward runs on its forward's stream. A gradient is handed to the stream of
// who will use it as it arrives (that of the node, or the caller's for a leaf), and is added up
// there.
#include <algorithm>
#include <memory>
#include <optional>
#include <queue>
#include <unordered_map>

#include "kernels/base/check.h"
#include "tensor/amp/autocast.h"
#include "tensor/tensor_impl.h"

namespace weft::tensor::autograd {
namespace {

using Index = std::uint32_t;

// Whether nobody but `gradient` can see its memory, so that it may be written to.
bool is_ours_alone(const Tensor& gradient) {
  return gradient.shared_impl().use_count() == 1 && gradient.storage().use_count() == 1 &&
         gradient.is_contiguous() && !gradient.requires_grad() &&
         !gradient.storage()->is_borrowed();
}

// Whether it may become a leaf's gradient as it is: a part of a larger storage would keep all of
// it.
bool may_move_in(const Tensor& gradient) {
  return is_ours_alone(gradient) &&
         gradient.storage()->bytes() == bytes_of(Elems(gradient.numel()), gradient.dtype());
}

// The same elements in the same order, whatever the handle.
bool lies_in(const Tensor& gradient, const Tensor& buffer) {
  return buffer.defined() && gradient.data() == buffer.data() && gradient.is_contiguous();
}

class Run {
 public:
  explicit Run(const Tensor& root) : outer_(current()) {
    discover(root);
    current() = this;
  }
  ~Run() { current() = outer_; }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  static Run*& current() {
    static thread_local Run* run = nullptr;
    return run;
  }

  void execute(const Tensor& gradient);
  Tensor empty_gradient(const Tensor& input);
  Tensor summed_gradient(std::size_t input);
  void after(std::function<void()> callback) { callbacks_.push_back(std::move(callback)); }
  std::vector<Tensor> leaves() const;

 private:
  struct State {  // of a node or a leaf
    std::shared_ptr<Node> node;
    std::shared_ptr<TensorImpl> leaf;
    Tensor gradient;        // what has arrived so far
    std::int64_t uses = 0;  // still to be accounted for
    Index first_edge = 0;   // into targets_
    bool extended = false;  // summed_gradient() gave `gradient` out to be added to
    bool lent = false;      // the leaf's buffer was given out by empty_gradient()
  };
  static constexpr Index kNone = ~Index{0};

  void discover(const Tensor& root);
  Index index_of(const std::shared_ptr<Node>& node, const std::shared_ptr<TensorImpl>& leaf);
  void run_node(Index index);
  std::vector<Tensor> call_backward(const Node& node, const Tensor& gradient);
  static std::optional<Stream> produced_on(const Node& node, const Tensor& gradient);
  void join(const Stream& stream);
  std::optional<Stream> stream_of(const State& state) const;
  void arrive(Index target, Tensor gradient, const std::optional<Stream>& from);
  void accumulate(State& state, Tensor gradient);
  void finish_leaf(State& state);
  bool buffer_is_free(const State& state) const;
  bool may_add_to(const State& state) const;

  std::vector<State> states_;
  std::vector<Index> targets_;  // of every edge of every node
  std::unordered_map<const void*, Index> index_;
  std::priority_queue<std::pair<std::uint64_t, Index>> ready_;  // by sequence, the latest first
  std::vector<std::function<void()>> callbacks_;
  std::span<const Index> running_;  // targets of the node whose Backward runs
  std::shared_ptr<Region> region_;  // of the node that ran last, among those that have one
  std::vector<Stream> joined_;      // streams that have waited for the caller's
  Run* outer_;                      // backward may run inside a Backward or a hook
};

Index Run::index_of(const std::shared_ptr<Node>& node, const std::shared_ptr<TensorImpl>& leaf) {
  const void* key = node ? static_cast<const void*>(node.get()) : leaf.get();
  const auto [found, fresh] = index_.try_emplace(key, static_cast<Index>(states_.size()));
  if (fresh) states_.push_back({.node = node, .leaf = leaf, .gradient = {}});
  return found->second;
}

void Run::discover(const Tensor& root) {
  index_of(root.impl()->node, root.impl()->node ? nullptr : root.shared_impl());
  // States are appended as they are found, so that they are their own work list.
  for (std::size_t i = 0; i < states_.size(); ++i) {
    const auto node = states_[i].node;
    if (!node) continue;
    if (node->released) {
      fail<InvalidArgument>(
          "backward: the history of this tensor was used by an earlier backward() and what '{}' "
          "(shape {}) had saved is gone. Compute it anew, or add the losses and run backward once",
          node->name, to_string(node->shape));
    }
    states_[i].first_edge = static_cast<Index>(targets_.size());
    for (const auto& edge : node->edges) {
      const bool used = edge.node || edge.leaf;
      const auto target = used ? index_of(edge.node, edge.leaf) : kNone;
      if (used) ++states_[target].uses;
      targets_.push_back(target);
    }
  }
}

void Run::execute(const Tensor& gradient) {
  const NoGrad no_grad;
  const amp::NoAutocast no_autocast;
  states_[0].uses = 1;
  const auto device = gradient.device();
  arrive(0, gradient,
         device.type == DeviceType::cuda ? std::optional(Stream::current(device)) : std::nullopt);
  while (!ready_.empty()) {
    const auto index = ready_.top().second;
    ready_.pop();
    run_node(index);
  }
  for (std::size_t i = 0; i < callbacks_.size(); ++i) callbacks_[i]();
}

void Run::run_node(Index index) {
  const auto node = std::move(states_[index].node);
  const auto gradient = std::move(states_[index].gradient);
  const auto first = states_[index].first_edge;
  if (node->region && node->region != region_) {
    region_ = node->region;
    region_->enter_backward();
  }
  std::vector<Tensor> gradients;
  if (gradient.defined()) {
    running_ = std::span(targets_).subspan(first, node->edges.size());
    gradients = call_backward(*node, gradient);
    running_ = {};
    WEFT_ASSERT(gradients.size() == node->edges.size(), node->name);
  } else {
    gradients.resize(node->edges.size());  // nothing flows through here, but uses are accounted for
  }
  node->release();
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    const auto target = targets_[first + i];
    if (target == kNone) continue;
    if (gradients[i].defined()) {
      const auto& to = states_[target];
      const auto& shape = to.node ? to.node->shape : to.leaf->shape;
      const auto dtype = to.node ? to.node->dtype : to.leaf->dtype;
      const auto device = to.node ? to.node->device : to.leaf->storage->device();
      const auto& found = gradients[i];
      if (found.shape() != shape || found.dtype() != dtype || found.device() != device) {
        fail<InvalidArgument>(
            "backward of '{}': gradient {} has shape {} of {} on {}; expected {} of {} on {}",
            node->name, i, to_string(found.shape()), name_of(found.dtype()),
            to_string(found.device()), to_string(shape), name_of(dtype), to_string(device));
      }
    }
    const auto from = produced_on(*node, gradients[i]);
    arrive(target, std::move(gradients[i]), from);
  }
}

// On the node's stream. What it gives is handed over to those who will use it while that is
// current.
std::vector<Tensor> Run::call_backward(const Node& node, const Tensor& gradient) {
  if (!node.stream) return node.backward(gradient);
  join(*node.stream);
  const StreamGuard guard(*node.stream);
  return node.backward(gradient);
}

std::optional<Stream> Run::produced_on(const Node& node, const Tensor& gradient) {
  if (!gradient.defined() || gradient.device().type == DeviceType::cpu) return {};
  if (node.stream && node.device == gradient.device()) return node.stream;
  return Stream::current(gradient.device());
}

// Work of the caller so far (an optimizer that still reads gradient buffers) comes first.
void Run::join(const Stream& stream) {
  const auto callers = Stream::current(stream.device());
  if (stream == callers || std::find(joined_.begin(), joined_.end(), stream) != joined_.end()) {
    return;
  }
  stream.wait(callers);
  joined_.push_back(stream);
}

std::optional<Stream> Run::stream_of(const State& state) const {
  if (state.node) return state.node->stream;
  const auto device = state.leaf->storage->device();
  if (device.type == DeviceType::cpu) return {};
  return Stream::current(device);
}

void Run::arrive(Index target, Tensor gradient, const std::optional<Stream>& from) {
  auto& state = states_[target];
  if (gradient.defined()) {
    const auto here = stream_of(state);
    std::optional<StreamGuard> guard;
    if (here && from && *here != *from) {
      join(*here);
      here->wait(*from);
      gradient.record_stream(*here);
    }
    if (here) guard.emplace(*here);
    accumulate(state, std::move(gradient));
  }
  if (--state.uses > 0) return;
  if (state.node) {
    ready_.emplace(state.node->sequence, target);
  } else {
    finish_leaf(state);
  }
}

bool Run::buffer_is_free(const State& state) const {
  if (!state.leaf || !state.leaf->leaf) return false;
  const auto& leaf = *state.leaf->leaf;
  return leaf.buffer.defined() && !leaf.grad.defined() && !state.lent;
}

bool Run::may_add_to(const State& state) const {
  const bool in_buffer =
      state.leaf && state.leaf->leaf && lies_in(state.gradient, state.leaf->leaf->buffer);
  return in_buffer || is_ours_alone(state.gradient);
}

void Run::accumulate(State& state, Tensor gradient) {
  if (!state.gradient.defined()) {
    state.gradient = std::move(gradient);
    return;
  }
  if (state.extended && gradient.same_as(state.gradient)) {
    state.extended = false;
  } else if (may_add_to(state)) {
    add_into(state.gradient, gradient);
  } else if (is_ours_alone(gradient)) {
    add_into(gradient, state.gradient);
    state.gradient = std::move(gradient);
  } else {
    auto sum = Tensor::empty(gradient.shape(), {gradient.dtype(), gradient.device()});
    if (buffer_is_free(state)) {
      sum = state.leaf->leaf->buffer;
      state.lent = true;
    }
    sum.copy_(state.gradient);
    add_into(sum, gradient);
    state.gradient = std::move(sum);
  }
}

void Run::finish_leaf(State& state) {
  const auto impl = state.leaf;
  auto gradient = std::move(state.gradient);
  if (!gradient.defined()) return;
  auto& leaf = impl->leaf_state();
  if (leaf.grad.defined()) {
    add_into(leaf.grad, gradient);
  } else if (leaf.buffer.defined()) {
    if (!lies_in(gradient, leaf.buffer)) leaf.buffer.copy_(gradient);
    leaf.grad = leaf.buffer;
  } else {
    leaf.grad = may_move_in(gradient) ? std::move(gradient) : gradient.clone();
  }
  if (leaf.hooks.empty()) return;
  const auto hooks = leaf.hooks;  // a hook may remove itself
  for (const auto& hook : hooks) (*hook.call)(Tensor(impl));
}

Tensor Run::empty_gradient(const Tensor& input) {
  const auto found = index_.find(input.impl());
  if (found != index_.end()) {
    auto& state = states_[found->second];
    if (!state.gradient.defined() && buffer_is_free(state)) {
      state.lent = true;
      return state.leaf->leaf->buffer;
    }
  }
  return Tensor::empty(input.shape(), {input.dtype(), input.device()});
}

Tensor Run::summed_gradient(std::size_t input) {
  WEFT_ASSERT(input < running_.size() && running_[input] != kNone,
              "summed_gradient() of an input that needs no gradient");
  auto& state = states_[running_[input]];
  if (const auto theirs = stream_of(state)) Stream::current(theirs->device()).wait(*theirs);
  if (state.gradient.defined() && may_add_to(state)) {
    state.extended = true;
    return state.gradient;
  }
  if (!state.gradient.defined() && buffer_is_free(state)) {
    state.lent = true;
    state.leaf->leaf->buffer.zero_();
    return state.leaf->leaf->buffer;
  }
  if (state.node) return Tensor::zeros(state.node->shape, {state.node->dtype, state.node->device});
  const auto& leaf = *state.leaf;
  return Tensor::zeros(leaf.shape, {leaf.dtype, leaf.storage->device()});
}

std::vector<Tensor> Run::leaves() const {
  std::vector<Tensor> found;
  for (const auto& state : states_) {
    if (state.leaf) found.emplace_back(state.leaf);
  }
  return found;
}

}  // namespace

void run_backward(const Tensor& root, const Tensor& gradient) {
  const auto& impl = require_defined(root, "backward");
  if (!impl.requires_grad()) {
    fail<InvalidArgument>(
        "backward: the tensor of shape {} depends on nothing that requires grad, or was computed "
        "with grad mode off",
        to_string(impl.shape));
  }
  if (!gradient.defined() && impl.numel != 1) {
    fail<InvalidArgument>(
        "backward: the tensor has shape {}, not one element; pass the gradient to start from, or "
        "reduce it to a scalar",
        to_string(impl.shape));
  }
  if (gradient.defined() && (gradient.shape() != impl.shape || gradient.dtype() != impl.dtype ||
                             gradient.device() != root.device())) {
    fail<InvalidArgument>(
        "backward: a gradient of shape {} of {} on {} for a tensor of shape {} of {} on {}",
        to_string(gradient.shape()), name_of(gradient.dtype()), to_string(gradient.device()),
        to_string(impl.shape), name_of(impl.dtype), to_string(root.device()));
  }
  Run run(root);
  run.execute(gradient.defined() ? gradient.detach()
                                 : Tensor::full(impl.shape, 1.0, {impl.dtype, root.device()}));
}

Tensor empty_gradient(const Tensor& input) {
  require_defined(input, "empty_gradient");
  if (auto* run = Run::current()) return run->empty_gradient(input);
  return Tensor::empty(input.shape(), {input.dtype(), input.device()});
}

Tensor summed_gradient(std::size_t input) {
  auto* run = Run::current();
  if (run == nullptr) fail<InvalidArgument>("summed_gradient: no backward() is running");
  return run->summed_gradient(input);
}

void after_backward(std::function<void()> callback) {
  auto* run = Run::current();
  if (run == nullptr) fail<InvalidArgument>("after_backward: no backward() is running");
  run->after(std::move(callback));
}

std::vector<Tensor> reachable_leaves(const Tensor& output) {
  require_defined(output, "reachable_leaves");
  if (!output.requires_grad()) return {};
  return Run(output).leaves();
}

}  // namespace weft::tensor::autograd
