// What the operators ask of their operands. For the tensor room only.
#pragma once

#include <string_view>

#include "tensor/tensor.h"

namespace weft::tensor::ops {

inline void require_some(std::string_view operation, const Tensor& a) {
  if (!a.defined()) fail<InvalidArgument>("{}: the tensor is undefined", operation);
}

inline void require_floating(std::string_view operation, const Tensor& a) {
  require_some(operation, a);
  if (is_floating(a.dtype())) return;
  fail<InvalidArgument>("{}: a tensor of shape {} holds {}; expected a floating type", operation,
                        to_string(a.shape()), name_of(a.dtype()));
}

// The remedy for operands on several devices is the caller's choice, so both are named.
inline void require_one_device(std::string_view operation, const Tensor& a, const Tensor& b) {
  if (a.device() == b.device()) return;
  fail<InvalidArgument>(
      "{}: a tensor of shape {} on {} with one of shape {} on {}; move one of them with to()",
      operation, to_string(a.shape()), to_string(a.device()), to_string(b.shape()),
      to_string(b.device()));
}

inline void require_same_type(std::string_view operation, const Tensor& a, const Tensor& b) {
  require_some(operation, a);
  require_some(operation, b);
  if (a.dtype() == b.dtype() && a.device() == b.device()) return;
  fail<InvalidArgument>(
      "{}: shape {} of {} on {} with shape {} of {} on {}; expected one dtype and device: use to()",
      operation, to_string(a.shape()), name_of(a.dtype()), to_string(a.device()),
      to_string(b.shape()), name_of(b.dtype()), to_string(b.device()));
}

}  // namespace weft::tensor::ops
