// Gradient clipping, in place, over parameters that have a gradient.
//
// On CUDA the work is queued on the current stream; what gives a double waits for it, the forms
// that give a tensor do not. The gradients of one call lie on one device, else InvalidArgument.
#pragma once

#include <span>

#include "tensor/tensor.h"

namespace weft::optim {

// The L2 norm over all gradients together.
double grad_norm(std::span<const Tensor> parameters);
// The same as an f64 scalar on the gradients' device.
Tensor grad_norm_tensor(std::span<const Tensor> parameters);

// Scales all gradients by max_norm / (norm + 1e-6) where that is below 1, as PyTorch does, and
// returns the norm before. With `error_if_nonfinite` an infinite or NaN norm is InvalidArgument and
// nothing is scaled.
double clip_grad_norm_(std::span<const Tensor> parameters, double max_norm,
                       bool error_if_nonfinite = false);
// The same without waiting for the norm, an f64 scalar on the gradients' device: for graphs, and
// for loops that print it now and then. A norm that is not finite makes gradients NaN or 0.
Tensor clip_grad_norm_tensor_(std::span<const Tensor> parameters, double max_norm);

// Clamps every gradient element to [-clip_value, clip_value]; NaN stays.
void clip_grad_value_(std::span<const Tensor> parameters, double clip_value);

}  // namespace weft::optim
