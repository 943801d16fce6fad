// Joining tensors along a dimension.
#include "tensor/amp/operands.h"
#include "tensor/autograd/node.h"
#include "tensor/ops/basic.h"
#include "tensor/ops/basic_checks.h"

namespace weft::tensor::ops {

Tensor cat(const std::vector<Tensor>& tensors, std::int64_t dim) {
  if (tensors.empty()) fail<InvalidArgument>("cat: there are no tensors");
  if (amp::casts()) {
    const auto alike = amp::promoted(tensors);
    const amp::NoAutocast plain;
    return cat(alike, dim);
  }
  require_some("cat", tensors[0]);
  dim = wrap_dim(dim, tensors[0].dim(), "cat");
  const auto at = static_cast<std::size_t>(dim);
  Shape shape = tensors[0].shape();
  std::vector<std::int64_t> lengths;
  for (const auto& tensor : tensors) {
    require_same_type("cat", tensors[0], tensor);
    Shape like = tensor.shape();
    if (like.size() == shape.size()) like[at] = tensors[0].shape()[at];
    if (like != tensors[0].shape()) {
      fail<InvalidArgument>("cat: shapes {} and {} differ in more than dimension {}",
                            to_string(tensors[0].shape()), to_string(tensor.shape()), dim);
    }
    lengths.push_back(tensor.shape()[at]);
  }
  shape[at] = 0;
  for (const auto length : lengths) shape[at] += length;
  auto out = Tensor::empty(shape, {tensors[0].dtype(), tensors[0].device()});
  std::int64_t start = 0;
  for (const auto& tensor : tensors) {
    const auto length = tensor.shape()[at];
    out.narrow(dim, start, length).copy_(tensor);
    start += length;
  }
  return autograd::record(
      "cat", std::move(out), tensors,
      [dim, lengths = std::move(lengths)](const Tensor& grad) -> std::vector<Tensor> {
        std::vector<Tensor> parts;
        std::int64_t from = 0;
        for (const auto length : lengths) {
          parts.push_back(grad.narrow(dim, from, length));
          from += length;
        }
        return parts;
      });
}

Tensor stack(const std::vector<Tensor>& tensors, std::int64_t dim) {
  if (tensors.empty()) fail<InvalidArgument>("stack: there are no tensors");
  require_some("stack", tensors[0]);
  dim = wrap_dim(dim, tensors[0].dim() + 1, "stack");
  std::vector<Tensor> wider;
  for (const auto& tensor : tensors) {
    require_some("stack", tensor);
    if (tensor.shape() != tensors[0].shape()) {
      fail<InvalidArgument>("stack: shapes {} and {} differ", to_string(tensors[0].shape()),
                            to_string(tensor.shape()));
    }
    wider.push_back(tensor.unsqueeze(dim));
  }
  return cat(wider, dim);
}

}  // namespace weft::tensor::ops
