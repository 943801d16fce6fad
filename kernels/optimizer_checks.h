// What callers of kernels/optimizer.h can get wrong, for the CPU and for CUDA alike. Each throws
// InvalidArgument and names the tensor by its place in the list.
#pragma once

#include <span>

#include "kernels/optimizer.h"

namespace weft::kernels {

void check_adam(std::span<const AdamTensor> tensors, const AdamParams& params);
void check_sgd(std::span<const SgdTensor> tensors, const SgdParams& params);
// All floating, none null.
void check_flat(const char* operation, std::span<const FlatTensor> tensors);
void check_unscale(double scale);
void check_max_norm(const char* operation, double max_norm);

}  // namespace weft::kernels
