// The type an operator computes in and keeps its statistics in (mean, log-sum-exp): f64 for f64,
// f32 for f32, f16 and bf16.
#pragma once

#include "kernels/base/dtype.h"

namespace weft::kernels {

constexpr DType compute_type(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }

}  // namespace weft::kernels
