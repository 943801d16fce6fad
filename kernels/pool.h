// Max and average pooling of planes.
//
// Contiguous memory; f64, f32, f16, bf16. Runs on the current thread pool, planes shared out;
// results do not depend on its size.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"

namespace weft::kernels {

struct Pool2d {
  DType dtype = DType::f32;
  std::int64_t planes = 0, in_height = 0, in_width = 0;  // planes: batch x channels
  std::int64_t kernel = 1, stride = 1, padding = 0;      // padding <= kernel / 2

  std::int64_t out_height() const { return (in_height + 2 * padding - kernel) / stride + 1; }
  std::int64_t out_width() const { return (in_width + 2 * padding - kernel) / stride + 1; }
};

// x (planes, in_height, in_width), y (planes, out_height, out_width). `winners` (like y) keeps the
// position of each maximum in its plane, the first where several tie; a NaN wins. Padding never
// wins.
void max_pool2d(const Pool2d& problem, const void* x, void* y, std::int32_t* winners);
void max_pool2d_backward(const Pool2d& problem, const void* dy, const std::int32_t* winners,
                         void* dx);

// Padding counts as zeros in the average.
void avg_pool2d(const Pool2d& problem, const void* x, void* y);
void avg_pool2d_backward(const Pool2d& problem, const void* dy, void* dx);

}  // namespace weft::kernels
