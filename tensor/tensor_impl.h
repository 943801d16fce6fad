// What a Tensor handle points to. For the tensor room only: everybody else uses tensor.h.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tensor/autograd/node.h"
#include "tensor/part.h"
#include "tensor/stream.h"
#include "tensor/tensor.h"

namespace weft::tensor {

// What a leaf that takes part in autograd remembers.
struct LeafState {
  struct Hook {
    std::int64_t id;
    std::shared_ptr<const std::function<void(const Tensor&)>> call;
  };
  bool requires_grad = false;
  Tensor grad;    // contiguous; the buffer where there is one
  Tensor buffer;  // set_grad_buffer
  std::vector<Hook> hooks;
  std::int64_t next_hook = 1;
  std::shared_ptr<const Part> part;                       // tensor/part.h
  std::vector<std::function<void(const Tensor&)>> fills;  // tensor/deferred.h
};

struct TensorImpl {
  std::shared_ptr<Storage> storage;
  Shape shape;
  Strides strides;
  std::int64_t offset = 0;  // elements
  std::int64_t numel = 0;
  DType dtype = DType::f32;
  bool contiguous = true;
  std::shared_ptr<autograd::Node> node;  // what made it, where that was recorded; empty: a leaf
  std::unique_ptr<LeafState> leaf;       // made when first needed

  TensorImpl() = default;
  ~TensorImpl();
  TensorImpl(const TensorImpl&) = delete;
  TensorImpl& operator=(const TensorImpl&) = delete;

  LeafState& leaf_state();
  bool requires_grad() const { return node != nullptr || (leaf && leaf->requires_grad); }
};

// A tensor over part of a storage, without history. Checks that it fits.
Tensor make_tensor(std::shared_ptr<Storage> storage, Shape shape, Strides strides,
                   std::int64_t offset, DType dtype);
// sum += term, of one shape and dtype, any strides; they may share memory. Not recorded.
void add_into(const Tensor& sum, const Tensor& term);
// The impl, or InvalidArgument naming the operation.
TensorImpl& require_defined(const Tensor& tensor, std::string_view operation);

namespace autograd {

// A recorded operation: who made its inputs, and how gradients flow back to them. Nodes own the
// nodes before them; destruction and traversal are iterative, as histories may be very long.
struct Node {
  struct Edge {  // one of the two, or neither where no gradient is needed
    std::shared_ptr<Node> node;
    std::shared_ptr<TensorImpl> leaf;
  };
  std::string name;
  Backward backward;
  std::vector<Edge> edges;
  Shape shape;  // of the output
  DType dtype = DType::f32;
  Device device = {};              // of the output
  std::optional<Stream> stream;    // on CUDA: where forward ran, and backward will
  std::uint64_t sequence = 0;      // grows with every record() of the process
  std::shared_ptr<Region> region;  // that it was recorded in
  bool released = false;           // backward ran: captured tensors and edges are gone

  Node() = default;
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  void release();
};

// Drops a reference to a node; a chain of last references is taken down in a loop.
void drop(std::shared_ptr<Node> node) noexcept;

// Runs backward from `root`, adding into leaves.
void run_backward(const Tensor& root, const Tensor& gradient);

}  // namespace autograd
}  // namespace weft::tensor
