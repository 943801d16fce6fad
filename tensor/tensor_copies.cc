// Copies, casts and writing in place.
#include "kernels/elementwise.h"
#include "tensor/tensor_impl.h"

namespace weft::tensor {
namespace {

// Writing to what autograd may still need would change gradients silently.
void require_writable(const Tensor& tensor, std::string_view operation) {
  const auto& impl = require_defined(tensor, operation);
  if (!autograd::grad_enabled() || !impl.requires_grad()) return;
  fail<InvalidArgument>(
      "{}: writing in place to a tensor of shape {} that requires grad{}; do it under NoGrad, or "
      "to "
      "a detach()ed tensor",
      operation, to_string(impl.shape),
      impl.node ? fmt::format(" (made by '{}')", impl.node->name) : "");
}

bool shares_elements(const TensorImpl& a) {
  for (std::size_t i = 0; i < a.shape.size(); ++i) {
    if (a.strides[i] == 0 && a.shape[i] > 1) return true;
  }
  return false;
}

// One past the last element in memory, in bytes of the storage; strides are never negative.
std::int64_t end_of(const TensorImpl& a) {
  std::int64_t last = a.offset;
  for (std::size_t i = 0; i < a.shape.size(); ++i) last += (a.shape[i] - 1) * a.strides[i];
  return (last + 1) * size_of(a.dtype).value;
}

bool may_overlap(const TensorImpl& a, const TensorImpl& b) {
  return a.storage == b.storage && a.numel > 0 && b.numel > 0 &&
         a.offset * size_of(a.dtype).value < end_of(b) &&
         b.offset * size_of(b.dtype).value < end_of(a);
}

void copy_elements(const TensorImpl& to, void* to_data, const TensorImpl& from,
                   const void* from_data) {
  if (to.numel == 0) return;
  if (from.shape == to.shape) {
    kernels::copy(to.shape, {to_data, to.strides}, to.dtype, {from_data, from.strides}, from.dtype);
    return;
  }
  const auto strides = broadcast_strides(from.shape, from.strides, to.shape);
  kernels::copy(to.shape, {to_data, to.strides}, to.dtype, {from_data, strides}, from.dtype);
}

Tensor copy_of(const Tensor& source, DType dtype) {
  auto result = Tensor::empty(source.shape(), {dtype, source.device()});
  copy_elements(*result.impl(), result.data(), *source.impl(), source.data());
  return result;
}

}  // namespace

void add_into(const Tensor& sum, const Tensor& term) {
  const auto& to = *sum.impl();
  const auto& from = *term.impl();
  if (to.numel == 0) return;
  to.storage->mark_written();
  const bool in_step = to.offset == from.offset && to.strides == from.strides;
  if (may_overlap(to, from) && !in_step) {
    add_into(sum, copy_of(term, from.dtype));
  } else if (to.contiguous && from.contiguous) {
    kernels::accumulate(to.dtype, Elems(to.numel), sum.data(), term.data());
  } else {
    kernels::accumulate(to.dtype, to.shape, {sum.data(), to.strides}, {term.data(), from.strides});
  }
}

Tensor Tensor::contiguous() const {
  if (is_contiguous()) return *this;
  return clone();
}

Tensor Tensor::clone() const {
  auto result = copy_of(*this, dtype());
  if (!autograd::should_record({*this})) return result;
  return autograd::record("clone", std::move(result), {*this},
                          [](const Tensor& grad) -> std::vector<Tensor> { return {grad}; });
}

Tensor Tensor::to(DType type) const {
  const auto from = dtype();
  if (type == from) return *this;
  auto result = copy_of(*this, type);
  if (!is_floating(type) || !autograd::should_record({*this})) return result;
  return autograd::record(
      "to", std::move(result), {*this},
      [from](const Tensor& grad) -> std::vector<Tensor> { return {grad.to(from)}; });
}

Tensor Tensor::to(Device target) const {
  if (target == device()) return *this;
  fail<Unsupported>("to: this build has no tensors on {}; use the cpu device", to_string(target));
}

void Tensor::copy_(const Tensor& source) const {
  require_writable(*this, "copy_");
  const auto& from = require_defined(source, "copy_");
  const auto& impl = *impl_;
  if (shares_elements(impl)) {
    fail<InvalidArgument>("copy_: writing to an expanded tensor of shape {}; clone() it first",
                          to_string(impl.shape));
  }
  if (broadcast_shapes(from.shape, impl.shape, "copy_") != impl.shape) {
    fail<InvalidArgument>("copy_: shape {} does not broadcast to {}", to_string(from.shape),
                          to_string(impl.shape));
  }
  const bool overlap = may_overlap(impl, from);
  if (overlap && impl.offset == from.offset && from.shape == impl.shape &&
      from.dtype == impl.dtype && from.strides == impl.strides) {
    return;
  }
  impl.storage->mark_written();
  const auto separate = overlap ? copy_of(source, impl.dtype) : source;
  copy_elements(impl, data(), *separate.impl(), separate.data());
}

void Tensor::fill_(double value) const {
  require_writable(*this, "fill_");
  const auto& impl = *impl_;
  if (impl.numel == 0) return;
  impl.storage->mark_written();
  if (impl.contiguous) {
    kernels::fill(impl.dtype, Elems(impl.numel), data(), value);
  } else if (shares_elements(impl)) {
    fail<InvalidArgument>("fill_: writing to an expanded tensor of shape {}; clone() it first",
                          to_string(impl.shape));
  } else {
    kernels::fill(impl.dtype, impl.shape, {data(), impl.strides}, value);
  }
}

}  // namespace weft::tensor
