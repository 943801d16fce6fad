// The arithmetic of optimizer steps on contiguous runs of f32 or f64, in the calling thread.
#pragma once

#include <cstddef>

#include "kernels/base/dtype.h"
#include "kernels/functors/norm.h"
#include "kernels/functors/optimizer.h"
#include "kernels/optimizer.h"

namespace weft::kernels::lanes {

// All of `dtype` (f32 or f64): parameter, gradient and state.
void adam(DType dtype, void* parameter, const void* gradient, void* exp_avg, void* exp_avg_sq,
          std::size_t count, const AdamFactors& factors);
// momentum may be nullptr.
void sgd(DType dtype, void* parameter, const void* gradient, void* momentum, std::size_t count,
         const SgdParams& params);

// Adds the squares of element i to sums[i % kSquareLanes]: an order of additions that no vector
// width changes.
void add_squares(DType dtype, const void* data, std::size_t count, double* sums);

// data *= factor; true where some result is NaN, infinite, or at least `limit` in magnitude.
bool scale_and_check(DType dtype, void* data, std::size_t count, double factor, double limit);

}  // namespace weft::kernels::lanes
