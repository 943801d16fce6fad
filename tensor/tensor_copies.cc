// Copies, casts and writing in place.
#include "kernels/cuda/elementwise.h"
#include "kernels/elementwise.h"
#include "tensor/by_device.h"
#include "tensor/tensor_impl.h"
#include "tensor/transfer.h"

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

// On one device.
void copy_elements(const Tensor& target, const Tensor& source) {
  const auto& to = *target.impl();
  const auto& from = *source.impl();
  if (to.numel == 0) return;
  const auto strides =
      from.shape == to.shape ? from.strides : broadcast_strides(from.shape, from.strides, to.shape);
  WEFT_BY_DEVICE(target.device(), copy, to.shape, {target.data(), to.strides}, to.dtype,
                 {source.data(), strides}, from.dtype);
}

Tensor copy_of(const Tensor& source, DType dtype) {
  auto result = Tensor::empty(source.shape(), {dtype, source.device()});
  copy_elements(result, source);
  return result;
}

Run run_of(const Tensor& tensor) {
  return {*tensor.storage(), tensor.offset() * size_of(tensor.dtype()).value};
}

// Contiguous, and of one dtype.
void move_elements(const Tensor& target, const Tensor& source, bool non_blocking) {
  transfer(run_of(target), run_of(source), size_of(source.dtype()) * source.numel(),
           non_blocking ? Blocking::no : Blocking::yes);
}

// Between devices: what is not a plain run of bytes is made one on its own device first.
void copy_across(const Tensor& target, const Tensor& source, bool non_blocking) {
  auto plain = source.dtype() == target.dtype() && source.is_contiguous()
                   ? source
                   : copy_of(source, target.dtype());
  if (plain.shape() == target.shape() && target.is_contiguous()) {
    move_elements(target, plain, non_blocking);
    return;
  }
  const auto here = Tensor::empty(plain.shape(), {target.dtype(), target.device()});
  // The host reads `here` at once.
  move_elements(here, plain, non_blocking && target.device().type == DeviceType::cuda);
  copy_elements(target, here);
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
    WEFT_BY_DEVICE(sum.device(), accumulate, to.dtype, Elems(to.numel), sum.data(), term.data(),
                   1.0);
  } else {
    WEFT_BY_DEVICE(sum.device(), accumulate, to.dtype, to.shape, {sum.data(), to.strides},
                   {term.data(), from.strides}, 1.0);
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

Tensor Tensor::to(Device target, bool non_blocking) const {
  const auto from = device();
  if (target == from) return *this;
  const auto source = is_contiguous() ? detach() : copy_of(*this, dtype());
  auto result = Tensor::empty(shape(), {dtype(), target});
  if (non_blocking && target.type == DeviceType::cpu) {
    result = Tensor::wrap(Storage::allocate_pinned(result.storage()->bytes()), shape(), dtype());
  }
  move_elements(result, source, non_blocking);
  if (!autograd::should_record({*this})) return result;
  return autograd::record(
      "to", std::move(result), {*this},
      [from](const Tensor& grad) -> std::vector<Tensor> { return {grad.to(from)}; });
}

Tensor Tensor::pin_memory() const {
  if (is_pinned()) return *this;
  const NoGrad no_grad;
  const auto bytes = size_of(dtype()) * numel();
  auto result = Tensor::wrap(Storage::allocate_pinned(bytes), shape(), dtype());
  result.copy_(*this);
  return result;
}

bool Tensor::is_pinned() const { return storage()->is_pinned(); }

void Tensor::copy_(const Tensor& source, bool non_blocking) const {
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
  if (source.device() != device()) {
    impl.storage->mark_written();
    copy_across(detach(), source.detach(), non_blocking);
    return;
  }
  const bool overlap = may_overlap(impl, from);
  if (overlap && impl.offset == from.offset && from.shape == impl.shape &&
      from.dtype == impl.dtype && from.strides == impl.strides) {
    return;
  }
  impl.storage->mark_written();
  copy_elements(*this, overlap ? copy_of(source, impl.dtype) : source);
}

void Tensor::fill_(double value) const {
  require_writable(*this, "fill_");
  const auto& impl = *impl_;
  if (impl.numel == 0) return;
  impl.storage->mark_written();
  if (impl.contiguous) {
    WEFT_BY_DEVICE(device(), fill, impl.dtype, Elems(impl.numel), data(), value);
  } else if (shares_elements(impl)) {
    fail<InvalidArgument>("fill_: writing to an expanded tensor of shape {}; clone() it first",
                          to_string(impl.shape));
  } else {
    WEFT_BY_DEVICE(device(), fill, impl.dtype, impl.shape, {data(), impl.strides}, value);
  }
}

}  // namespace weft::tensor
