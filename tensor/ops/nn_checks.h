// What the neural network operators ask of their operands, beyond basic_checks.h. For this folder
// only.
#pragma once

#include <string_view>

#include "kernels/base/units.h"
#include "tensor/ops/basic_checks.h"
#include "tensor/tensor.h"

namespace weft::tensor::ops {

inline Elems elems_of(const Tensor& a) { return Elems(a.numel()); }

// Indices into a tensor of `first`'s device.
inline void require_indices(std::string_view operation, const Tensor& first,
                            const Tensor& indices) {
  require_some(operation, indices);
  require_one_device(operation, first, indices);
  if (indices.dtype() == DType::i64 || indices.dtype() == DType::i32) return;
  fail<InvalidArgument>("{}: indices of shape {} hold {}; expected i64 or i32", operation,
                        to_string(indices.shape()), name_of(indices.dtype()));
}

// An optional operand ("weight", "bias") of the first one's type and of one dimension.
inline void require_vector(std::string_view operation, std::string_view name, const Tensor& first,
                           const Tensor& vector, std::int64_t length) {
  if (!vector.defined()) return;
  require_same_type(operation, first, vector);
  if (vector.dim() == 1 && vector.size(0) == length) return;
  fail<InvalidArgument>("{}: {} has shape {}; expected ({},) for an input of shape {}", operation,
                        name, to_string(vector.shape()), length, to_string(first.shape()));
}

inline Tensor contiguous_or_undefined(const Tensor& a) { return a.defined() ? a.contiguous() : a; }
inline const void* data_or_null(const Tensor& a) { return a.defined() ? a.data() : nullptr; }
inline bool needs_grad(const Tensor& a) { return a.defined() && a.requires_grad(); }

}  // namespace weft::tensor::ops
