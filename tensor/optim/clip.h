// Gradient clipping, in place, over parameters that have a gradient.
#pragma once

#include <span>

#include "tensor/tensor.h"

namespace weft::optim {

// The L2 norm over all gradients together.
double grad_norm(std::span<const Tensor> parameters);

// Scales all gradients by max_norm / (norm + 1e-6) where that is below 1, as PyTorch does, and
// returns the norm before. With `error_if_nonfinite` an infinite or NaN norm is InvalidArgument and
// nothing is scaled.
double clip_grad_norm_(std::span<const Tensor> parameters, double max_norm,
                       bool error_if_nonfinite = false);

// Clamps every gradient element to [-clip_value, clip_value]; NaN stays.
void clip_grad_value_(std::span<const Tensor> parameters, double clip_value);

}  // namespace weft::optim
