// Operations on whole lists of gradients, the CUDA twins of kernels/optimizer.h's, and dynamic loss
// scaling. Nothing here waits for the device: verdicts, norms and scales stay in its memory, and
// what follows reads them there. One training step in 16-mixed, all on one stream:
//
//   unscale_and_check(gradients, loss_scale)     found_inf |= ...   (then, with several ranks,
//                                                an all-reduce (max) of loss_scale->found_inf)
//   clip_norm(gradients, max_norm, workspace, norm)
//   advance_step(step, &loss_scale->found_inf);  adam(..., {.step = step, .found_inf = ...})
//   update_loss_scale(loss_scale)
//
// Pointers are to memory of the current device, aligned to their elements. Lists may mix floating
// types and have any length. Results are bit for bit those of the CPU. Errors: InvalidArgument as
// on the CPU and for a misaligned pointer, Unsupported where there is no device.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/cuda/loss_scale.h"
#include "kernels/cuda/stream.h"
#include "kernels/optimizer.h"

namespace weft::kernels::cuda {

void scale(std::span<const FlatTensor> tensors, double factor, Stream stream = nullptr);
// The factor is read from device memory; 1 touches nothing.
void scale(std::span<const FlatTensor> tensors, const double* factor, Stream stream = nullptr);

// Multiplies by 1/scale and sets *found_inf to 1 where an element is not finite, in one pass;
// leaves it as it is otherwise, so that several calls share a flag.
void unscale_and_check(std::span<const FlatTensor> tensors, double scale, std::int32_t* found_inf,
                       Stream stream = nullptr);
// By state->scale, into state->found_inf.
void unscale_and_check(std::span<const FlatTensor> tensors, LossScale* state,
                       Stream stream = nullptr);

// Sum of squares into *result, in the order of kernels/functors/norm.h. `workspace` holds
// norm_workspace(tensors) bytes and is free again when the work is done.
Bytes norm_workspace(std::span<const FlatTensor> tensors);
void squared_norm(std::span<const FlatTensor> tensors, void* workspace, double* result,
                  Stream stream = nullptr);

// Gradients whose norm is beyond max_norm (>= 0) are scaled down to it, by max_norm / (norm +
// 1e-6). *norm, where not nullptr, is the norm before. One that is not finite makes them NaN or 0,
// as in PyTorch.
void clip_norm(std::span<const FlatTensor> tensors, double max_norm, void* workspace,
               double* norm = nullptr, Stream stream = nullptr);

}  // namespace weft::kernels::cuda
