// The autograd part of Tensor: state of leaves, gradients, hooks.
#include <algorithm>

#include "tensor/tensor_impl.h"

namespace weft::tensor {
namespace {

LeafState& require_leaf(const Tensor& tensor, std::string_view operation) {
  auto& impl = require_defined(tensor, operation);
  if (impl.node) {
    fail<InvalidArgument>(
        "{}: a tensor of shape {} made by '{}' is not a leaf; detach() it, or use the tensors it "
        "was made from",
        operation, to_string(impl.shape), impl.node->name);
  }
  return impl.leaf_state();
}

void require_like(const Tensor& leaf, const Tensor& other, std::string_view operation) {
  if (other.shape() == leaf.shape() && other.dtype() == leaf.dtype() &&
      other.device() == leaf.device()) {
    return;
  }
  fail<InvalidArgument>("{}: shape {} of {} on {} for a tensor of shape {} of {} on {}", operation,
                        to_string(other.shape()), name_of(other.dtype()), to_string(other.device()),
                        to_string(leaf.shape()), name_of(leaf.dtype()), to_string(leaf.device()));
}

}  // namespace

bool Tensor::requires_grad() const { return impl_ && impl_->requires_grad(); }

Tensor& Tensor::set_requires_grad(bool on) {
  auto& leaf = require_leaf(*this, "set_requires_grad");
  if (on && !is_floating(dtype())) {
    fail<InvalidArgument>(
        "set_requires_grad: {} tensors have no gradient; expected a floating type",
        name_of(dtype()));
  }
  leaf.requires_grad = on;
  return *this;
}

bool Tensor::is_leaf() const { return require_defined(*this, "is_leaf").node == nullptr; }

Tensor Tensor::grad() const {
  const auto& impl = require_defined(*this, "grad");
  return impl.leaf ? impl.leaf->grad : Tensor();
}

void Tensor::set_grad(Tensor grad) {
  auto& leaf = require_leaf(*this, "set_grad");
  if (!grad.defined()) {
    leaf.grad = Tensor();
    return;
  }
  require_like(*this, grad, "set_grad");
  const NoGrad no_grad;
  if (leaf.buffer.defined()) {
    if (grad.data() != leaf.buffer.data()) leaf.buffer.copy_(grad);
    leaf.grad = leaf.buffer;
  } else {
    leaf.grad = grad.detach().contiguous();
  }
}

void Tensor::set_grad_buffer(Tensor buffer) {
  auto& leaf = require_leaf(*this, "set_grad_buffer");
  if (buffer.defined()) {
    require_like(*this, buffer, "set_grad_buffer");
    if (!buffer.is_contiguous()) {
      fail<InvalidArgument>("set_grad_buffer: the buffer of shape {} is not contiguous",
                            to_string(buffer.shape()));
    }
    buffer = buffer.detach();
    if (leaf.grad.defined()) {
      const NoGrad no_grad;
      if (leaf.grad.data() != buffer.data()) buffer.copy_(leaf.grad);
      leaf.grad = buffer;
    }
  }
  leaf.buffer = std::move(buffer);
}

void Tensor::zero_grad() {
  auto& impl = require_defined(*this, "zero_grad");
  if (!impl.leaf) return;
  impl.leaf->grad = Tensor();
  if (impl.leaf->part) impl.leaf->part->values.impl()->leaf_state().grad = Tensor();
}

void Tensor::backward(const Tensor& gradient) const { autograd::run_backward(*this, gradient); }

Tensor Tensor::detach() const {
  const auto& impl = require_defined(*this, "detach");
  return make_tensor(impl.storage, impl.shape, impl.strides, impl.offset, impl.dtype);
}

std::int64_t Tensor::on_grad_ready(std::function<void(const Tensor& leaf)> hook) const {
  auto& leaf = require_leaf(*this, "on_grad_ready");
  if (!hook) fail<InvalidArgument>("on_grad_ready: the hook is empty");
  const auto id = leaf.next_hook++;
  leaf.hooks.push_back(
      {id, std::make_shared<const std::function<void(const Tensor&)>>(std::move(hook))});
  return id;
}

void Tensor::remove_hook(std::int64_t id) const {
  auto& hooks = require_leaf(*this, "remove_hook").hooks;
  std::erase_if(hooks, [id](const LeafState::Hook& hook) { return hook.id == id; });
}

std::shared_ptr<const Part> part_of(const Tensor& parameter) {
  const auto& impl = require_defined(parameter, "part_of");
  return impl.leaf ? impl.leaf->part : nullptr;
}

void set_part(const Tensor& parameter, std::shared_ptr<const Part> part) {
  auto& leaf = require_leaf(parameter, "set_part");
  if (part) {
    const auto& values = part->values;
    if (!is_floating(values.dtype()) || !values.is_leaf() || !values.is_contiguous() ||
        part->begin < 0 || part->begin + values.numel() > parameter.numel()) {
      fail<InvalidArgument>("set_part: elements [{}, {}) of {} for a parameter of shape {} of {}",
                            part->begin, part->begin + values.numel(), name_of(values.dtype()),
                            to_string(parameter.shape()), name_of(parameter.dtype()));
    }
  }
  leaf.part = std::move(part);
}

void set_part_grad(const Tensor& values, Tensor gradient) {
  auto& leaf = require_leaf(values, "set_part_grad");
  if (gradient.defined() && (gradient.shape() != values.shape() || !gradient.is_contiguous() ||
                             !is_floating(gradient.dtype()))) {
    fail<InvalidArgument>("set_part_grad: a gradient of shape {} and {} for a part of shape {}",
                          to_string(gradient.shape()), name_of(gradient.dtype()),
                          to_string(values.shape()));
  }
  leaf.grad = gradient.defined() ? gradient.detach() : Tensor();
}

Tensor updated_of(const Tensor& parameter) {
  const auto part = part_of(parameter);
  return part ? part->values : parameter;
}

void rebind(const Tensor& leaf, const std::shared_ptr<Storage>& storage, std::int64_t offset) {
  require_leaf(leaf, "rebind");
  auto& impl = *leaf.impl();
  const auto end = (offset + impl.numel) * size_of(impl.dtype).value;
  if (!impl.contiguous || offset < 0 || !storage || storage->device() != leaf.device() ||
      end > storage->bytes().value) {
    fail<InvalidArgument>("rebind: a leaf of shape {} does not lie at element {} of a storage",
                          to_string(impl.shape), offset);
  }
  impl.storage = storage;
  impl.offset = offset;
}

}  // namespace weft::tensor
