// The backward of broadcasting. For the tensor room only.
#pragma once

#include "tensor/tensor.h"

namespace weft::tensor::ops {

// Sums a tensor over the dimensions along which `shape` was broadcast to it; itself where there are
// none. Not recorded.
Tensor sum_to(const Tensor& a, const Shape& shape);

}  // namespace weft::tensor::ops
