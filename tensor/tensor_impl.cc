#include "tensor/tensor_impl.h"

#include "kernels/base/error.h"

namespace weft::tensor {

TensorImpl::~TensorImpl() {
  if (node) autograd::drop(std::move(node));
}

LeafState& TensorImpl::leaf_state() {
  if (!leaf) leaf = std::make_unique<LeafState>();
  return *leaf;
}

Tensor make_tensor(std::shared_ptr<Storage> storage, Shape shape, Strides strides,
                   std::int64_t offset, DType dtype) {
  auto impl = std::make_shared<TensorImpl>();
  impl->storage = std::move(storage);
  impl->numel = numel(shape);
  impl->contiguous = is_contiguous(shape, strides);
  impl->shape = std::move(shape);
  impl->strides = std::move(strides);
  impl->offset = offset;
  impl->dtype = dtype;
  return Tensor(std::move(impl));
}

TensorImpl& require_defined(const Tensor& tensor, std::string_view operation) {
  if (!tensor.defined()) fail<InvalidArgument>("{}: the tensor is undefined", operation);
  return *tensor.impl();
}

}  // namespace weft::tensor
