// A strided view of a storage, with what autograd needs to know about it.
//
// Tensors are handles: copies share elements, gradient and history. Views (view, transpose, narrow,
// ...) share elements and are recorded by autograd. Not thread-safe per tensor; different threads
// may work on different tensors, and each thread has its own grad mode. Errors: InvalidArgument
// names operation and shapes.
//
// On a CUDA device, operators queue their work on the thread's current stream (tensor/stream.h) and
// return at once; what gives values to the host (item(), to_vector(), to(cpu)) waits for it.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "kernels/base/dtype.h"
#include "kernels/base/error.h"
#include "tensor/shape.h"
#include "tensor/storage.h"

namespace weft::tensor {

class Generator;    // tensor/random.h
struct TensorImpl;  // tensor/tensor_impl.h
namespace autograd {
struct Node;
}

struct TensorOptions {
  DType dtype = DType::f32;
  Device device = {};
};

class Tensor {
 public:
  Tensor() = default;  // undefined

  static Tensor empty(Shape shape, TensorOptions options = {});
  static Tensor zeros(Shape shape, TensorOptions options = {});
  static Tensor full(Shape shape, double value, TensorOptions options = {});
  static Tensor scalar(double value, TensorOptions options = {}) {
    return full({}, value, options);
  }
  static Tensor arange(std::int64_t end, TensorOptions options = {});
  static Tensor randn(Shape shape, Generator& generator, TensorOptions options = {});
  static Tensor rand(Shape shape, Generator& generator, TensorOptions options = {});  // [0, 1)
  template <class T>
  static Tensor from(std::span<const T> values, Shape shape);  // copies
  template <class T>
  static Tensor from(const std::vector<T>& values, Shape shape) {
    return from(std::span<const T>(values), std::move(shape));
  }
  static Tensor wrap(std::shared_ptr<Storage> storage, Shape shape, DType dtype,
                     std::int64_t offset = 0);  // contiguous view, aligned to its elements

  bool defined() const { return impl_ != nullptr; }
  const Shape& shape() const;
  const Strides& strides() const;
  std::int64_t dim() const;
  std::int64_t size(std::int64_t d) const;  // negative counts from the end
  std::int64_t numel() const;
  DType dtype() const;
  Device device() const;
  bool is_contiguous() const;
  std::int64_t offset() const;  // of the first element in the storage, elements
  const std::shared_ptr<Storage>& storage() const;
  void record_stream(const Stream& stream) const { storage()->record_stream(stream); }

  void* data() const;  // of the first element; not for the host to read on a CUDA device
  template <class T>
  T* data() const;      // InvalidArgument when T is not the dtype
  double item() const;  // of a one-element tensor
  template <class T>
  std::vector<T> to_vector() const;  // row-major, converted as kernels::cast does

  // --- views: no copy; differentiable. -1 infers one dimension of view/reshape.
  Tensor view(Shape shape) const;     // needs compatible strides
  Tensor reshape(Shape shape) const;  // a view where it can be, else a copy
  Tensor transpose(std::int64_t a, std::int64_t b) const;
  Tensor permute(std::vector<std::int64_t> order) const;
  Tensor narrow(std::int64_t d, std::int64_t start, std::int64_t length) const;
  Tensor select(std::int64_t d, std::int64_t index) const;
  Tensor expand(Shape shape) const;
  Tensor squeeze(std::int64_t d) const;
  Tensor unsqueeze(std::int64_t d) const;
  Tensor flatten(std::int64_t start = 0, std::int64_t end = -1) const;

  // --- copies; differentiable.
  Tensor contiguous() const;  // itself where it is
  Tensor clone() const;
  Tensor to(DType dtype) const;
  // Itself where it lies there. Copies are queued on the devices' current streams; one to the cpu
  // waits until the values are there. `non_blocking`: between pinned host memory (pin_memory()) and
  // a device it does not wait at all: don't write to the source, or read the result on the host,
  // before the stream has got there.
  Tensor to(Device device, bool non_blocking = false) const;
  Tensor pin_memory() const;  // a copy in page-locked host memory; itself where it is. Not recorded
  bool is_pinned() const;

  // --- in place; not recorded. Refused, while grad mode is on, on a tensor that requires grad, and
  // always on expanded ones (elements shared by several indices). Overlapping views are copied as
  // if by way of a temporary.
  // Broadcasts, casts, and moves between devices (as to() does).
  void copy_(const Tensor& source, bool non_blocking = false) const;
  void fill_(double value) const;
  void zero_() const { fill_(0.0); }

  // --- autograd
  bool requires_grad() const;
  Tensor& set_requires_grad(bool on);  // of leaves
  bool is_leaf() const;
  Tensor grad() const;         // undefined until there is one
  void set_grad(Tensor grad);  // undefined drops it; copied where there is a grad buffer
  // Where gradients are to live: a contiguous tensor of the same shape and dtype (a slice of a DDP
  // bucket). Kept over zero_grad(); the next backward overwrites, later ones add. A gradient that
  // is there already moves in. Undefined: gradients live where they come about again.
  void set_grad_buffer(Tensor buffer);
  void zero_grad();  // forgets the gradient (the buffer stays); the next backward starts anew
  // Accumulates d(this)/d(leaf) into every leaf that requires grad. `gradient` may be undefined for
  // one-element tensors. Uses the history up: a second backward() through any part of it is
  // InvalidArgument. When it throws (an operator or a hook did), gradients are unfinished.
  void backward(const Tensor& gradient = {}) const;
  Tensor detach() const;
  // Called, on the thread that runs backward, each time this leaf's gradient for the current
  // backward() is complete (all its uses in the graph are done), with grad mode off; not for leaves
  // that nothing reached. Leaves come in the order in which their gradients are complete, the same
  // every time. Gives an id for remove_hook(). A hook that owns its leaf is a cycle: use the
  // argument.
  std::int64_t on_grad_ready(std::function<void(const Tensor& leaf)> hook) const;
  void remove_hook(std::int64_t id) const;

  TensorImpl* impl() const { return impl_.get(); }
  const std::shared_ptr<TensorImpl>& shared_impl() const { return impl_; }
  explicit Tensor(std::shared_ptr<TensorImpl> impl) : impl_(std::move(impl)) {}
  bool same_as(const Tensor& other) const { return impl_ == other.impl_; }

 private:
  std::shared_ptr<TensorImpl> impl_;
};

}  // namespace weft::tensor

namespace weft {
using tensor::Device;
using tensor::DeviceType;
using tensor::Shape;
using tensor::Tensor;
using tensor::TensorOptions;
}  // namespace weft
