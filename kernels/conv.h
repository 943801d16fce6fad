// Two-dimensional convolution (cross-correlation, as everywhere in deep learning) by im2col and
// GEMM, an image at a time.
//
// Contiguous memory; f64, f32, f16, bf16 (halves compute in f32 and round once). Runs on the
// current thread pool; results depend on its size only through gemm() when batch is 1.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"

namespace weft::kernels {

struct Conv2d {
  DType dtype = DType::f32;
  std::int64_t batch = 0, in_channels = 0, in_height = 0, in_width = 0;
  std::int64_t out_channels = 0, kernel_height = 0, kernel_width = 0;
  std::int64_t stride = 1, padding = 0;

  std::int64_t out_height() const { return (in_height + 2 * padding - kernel_height) / stride + 1; }
  std::int64_t out_width() const { return (in_width + 2 * padding - kernel_width) / stride + 1; }
  // Elements of one image, of one result, of one filter.
  std::int64_t image() const { return in_channels * in_height * in_width; }
  std::int64_t pixels() const { return out_height() * out_width(); }
  std::int64_t filter() const { return in_channels * kernel_height * kernel_width; }
};

// x (batch, in_channels, in_height, in_width), weight (out_channels, in_channels, kernel_height,
// kernel_width), bias (out_channels) or nullptr, y (batch, out_channels, out_height, out_width).
void conv2d(const Conv2d& problem, const void* x, const void* weight, const void* bias, void* y);

// Writes the gradients that are not nullptr; shapes as above. Sums over the batch run over fixed
// groups of images, then over the groups in order.
void conv2d_backward(const Conv2d& problem, const void* dy, const void* x, const void* weight,
                     void* dx, void* dweight, void* dbias);

}  // namespace weft::kernels
