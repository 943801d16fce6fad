#include "tensor/deferred.h"

#include "tensor/autograd/node.h"
#include "tensor/tensor_impl.h"

namespace weft::tensor {
namespace {

std::vector<Fill>* fills_of(const Tensor& leaf) {
  const auto& impl = require_defined(leaf, "deferred");
  return impl.leaf && !impl.leaf->fills.empty() ? &impl.leaf->fills : nullptr;
}

}  // namespace

Tensor deferred_leaf(Shape shape, DType dtype, std::vector<Fill> fills) {
  const Bytes bytes = bytes_of(Elems(numel(shape)), dtype);
  static std::byte nowhere;
  auto storage = Storage::borrow(&nowhere, bytes, nullptr);
  storage->move_to(nullptr);
  auto leaf = Tensor::wrap(std::move(storage), std::move(shape), dtype);
  leaf.impl()->leaf_state().fills = std::move(fills);
  return leaf;
}

Tensor deferred_copy(const Tensor& leaf, DType dtype) {
  if (const auto* fills = fills_of(leaf)) return deferred_leaf(leaf.shape(), dtype, *fills);
  const Fill copy = [values = leaf.detach()](const Tensor& to) { to.copy_(values); };
  return deferred_leaf(leaf.shape(), dtype, {copy});
}

bool is_deferred(const Tensor& leaf) { return fills_of(leaf) != nullptr; }

void add_fill(const Tensor& leaf, Fill fill) {
  leaf.impl()->leaf_state().fills.push_back(std::move(fill));
}

Tensor filled(const Tensor& leaf, DType dtype) {
  const NoGrad no_grad;
  const auto* fills = fills_of(leaf);
  if (fills == nullptr) return leaf.detach().to(dtype);
  const auto values = Tensor::empty(leaf.shape(), {dtype});
  for (const auto& fill : *fills) fill(values);
  return values;
}

void materialize(const Tensor& leaf) {
  if (!is_deferred(leaf)) return;
  rebind(leaf, filled(leaf, leaf.dtype()).storage(), 0);
  forget_fills(leaf);
}

void forget_fills(const Tensor& leaf) {
  if (auto* fills = fills_of(leaf)) fills->clear();
}

}  // namespace weft::tensor
