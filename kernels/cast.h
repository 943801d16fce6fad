// Conversion between element types.
#pragma once

#include "kernels/base/dtype.h"
#include "kernels/base/units.h"

namespace weft::kernels {

// to[i] = from[i] * scale, converted. Floating results round to nearest even; floating to integer
// truncates towards zero and saturates, NaN becomes 0. scale == 1 leaves integers exact. Any
// alignment, no overlap unless to == from and the types have one size. Runs in the calling thread.
void cast(void* to, DType to_type, const void* from, DType from_type, Elems count,
          double scale = 1.0);

}  // namespace weft::kernels
