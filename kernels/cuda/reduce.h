// Reduction of several inputs on a CUDA device: the twin of kernels/reduce.h.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/cuda/stream.h"
#include "kernels/reduce.h"

namespace weft::kernels::cuda {

inline constexpr int kReduceInputsMax = 256;

// out[i] = inputs[0][i] op inputs[1][i] op ..., in one launch, bit for bit what kernels::reduce
// does (a NaN stays a NaN, but its payload may change). Device pointers, aligned to their elements:
// memory of the current device, or of others that it has access to. `out` may be one of the inputs;
// otherwise buffers must not overlap. Queued on `stream`. InvalidArgument for no input or more than
// kReduceInputsMax, a null or misaligned pointer, or a divisor below 1; Unsupported where there is
// no device.
void reduce(void* out, std::span<const void* const> inputs, Elems count, DType dtype, ReduceOp op,
            std::int64_t divisor = 1, Stream stream = nullptr);

}  // namespace weft::kernels::cuda
