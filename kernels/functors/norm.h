// The shape of a sum of squares, which CPU and CUDA keep to, so that both get the same bits however
// many threads, blocks or vector lanes work on it; and what follows from the norm.
//
// Each tensor is cut into chunks of kSquareChunk elements, a list's chunks numbered in order.
// Square i of a chunk is added, in f64, to lane i % kSquareLanes; the lanes are folded in halves
// (lane l takes lane l + 32, then l + 16, ...). Chunk c's sum is added to lane c % kPartialLanes of
// another such set, in order of c, which is folded the same way.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/base/dtype.h"

namespace weft::kernels {

// The least magnitude that the type rounds to infinity: half-way past its largest number, where the
// tie goes to even. Infinity itself for f32 and f64.
constexpr double overflow_limit(DType dtype) {
  if (dtype == DType::f16) return 65520.0;
  if (dtype == DType::bf16) return 0x1.ffp127;
  return std::numeric_limits<double>::infinity();
}

inline constexpr int kSquareLanes = 64;
inline constexpr std::int64_t kSquareChunk = 4096;
inline constexpr int kPartialLanes = 1024;

// What gradients of this norm are multiplied with to bring it down to max_norm, as PyTorch's
// clip_grad_norm_ has it. A factor >= 1 leaves them as they are; a NaN makes NaN of them.
WEFT_HD inline double clip_factor(double norm, double max_norm) { return max_norm / (norm + 1e-6); }

}  // namespace weft::kernels
