// How parameters start. All write in place, in f32 arithmetic rounded to the tensor's type.
#pragma once

#include "tensor/random.h"
#include "tensor/tensor.h"

namespace weft::nn {

// A parameter (or buffer) that starts with `value` everywhere.
Tensor constant(Shape shape, double value);
// Of a parameter made under DeferredInit these take their numbers off the generator's stream now
// and write later.
void normal_(Tensor tensor, double mean, double deviation, tensor::Generator& generator);
void uniform_(Tensor tensor, double low, double high, tensor::Generator& generator);
// PyTorch's default for Linear and Conv2d: uniform in +-1/sqrt(fan_in), which is He et al.'s
// Kaiming-uniform with a = sqrt(5).
void kaiming_uniform_(Tensor tensor, std::int64_t fan_in, tensor::Generator& generator);

}  // namespace weft::nn
