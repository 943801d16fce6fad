// Conversion between element types on a CUDA device: the twin of kernels/cast.h.
#pragma once

#include "kernels/base/dtype.h"
#include "kernels/base/units.h"
#include "kernels/cuda/stream.h"

namespace weft::kernels::cuda {

// to[i] = from[i] * scale, converted, between any two types, bit for bit what kernels::cast does
// (a NaN stays a NaN, but its payload may change). Device pointers on the current device, aligned
// to their elements; no overlap unless to == from and the types have one size. Queued on `stream`.
// InvalidArgument for a null or misaligned pointer, Unsupported where there is no device.
void cast(void* to, DType to_type, const void* from, DType from_type, Elems count,
          double scale = 1.0, Stream stream = nullptr);

}  // namespace weft::kernels::cuda
