// Conversion between element types.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/base/units.h"

namespace weft::kernels {

// to[i] = from[i] * scale, converted. Floating results round to nearest even; floating to integer
// truncates towards zero and saturates, NaN becomes 0. scale == 1 leaves integers exact. Any
// alignment, no overlap unless to == from and the types have one size. Runs in the calling thread.
void cast(void* to, DType to_type, const void* from, DType from_type, Elems count,
          double scale = 1.0);

// The same for rows of `count` elements, `stride` elements apart: one call for many short rows.
struct CastTo {
  void* data = nullptr;
  DType dtype = DType::f32;
  std::int64_t stride = 0;
};
struct CastFrom {
  const void* data = nullptr;
  DType dtype = DType::f32;
  std::int64_t stride = 0;
};
void cast_rows(const CastTo& to, const CastFrom& from, std::int64_t rows, Elems count);

}  // namespace weft::kernels
