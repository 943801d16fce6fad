// Conversion between element types on a CUDA device.
#pragma once

#include "kernels/base/dtype.h"
#include "kernels/base/units.h"
#include "kernels/cuda/stream.h"

namespace weft::kernels::cuda {

// to[i] = from[i] * scale, rounded to nearest even, bit for bit what kernels::cast does. Device
// pointers on the current device, aligned to their elements; to_type is f16 or bf16. Queued on
// `stream`. Unsupported where there is no device.
void cast_from_f32(void* to, DType to_type, const float* from, Elems count, double scale = 1.0,
                   Stream stream = nullptr);

}  // namespace weft::kernels::cuda
