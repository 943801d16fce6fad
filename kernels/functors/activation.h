// GELU and ReLU of one element: what kernels/cuda/activation.cu computes, with the formulas of
// kernels/cpu/activation.cc.
//
// Error of value() against the exact function, for both forms and either Math: 4e-7 (|x| + 1) in
// f32; of slope(): 2e-6. f64 is as good as std::exp and std::erfc.
#pragma once

#include <cmath>

#include "kernels/functors/math.h"

namespace weft::kernels::functors {

// x/2 (1 + tanh u) = x sigmoid(2u), which does not cancel for negative x.
template <class R, class Math>
struct GeluTanh {
  static constexpr R kLinear = static_cast<R>(2 * 0.79788456080286535588);  // 2 sqrt(2 / pi)
  static constexpr R kCubic = static_cast<R>(2 * 0.79788456080286535588 * 0.044715);

  WEFT_HD static R twice_u(R x) { return x * (x * x * kCubic + kLinear); }

  WEFT_HD static R value(R x) { return Math::divide(x, R(1) + Math::exp(-twice_u(x))); }
  WEFT_HD static R slope(R x) {
    const R s = Math::divide(R(1), R(1) + Math::exp(-twice_u(x)));
    const R du = x * x * (3 * kCubic) + kLinear;
    // Where the sigmoid is 0 or 1 the product vanishes, however large x du is.
    const R bell = s * (R(1) - s);
    return bell == R(0) ? s : s + x * du * bell;
  }
};

template <class R, class Math>
struct GeluExact {
  // e^(-x^2/2)
  WEFT_HD static R bell(R x) { return Math::exp(x * x * R(-0.5)); }

  // The normal distribution function; float by Abramowitz, Stegun 7.1.26.
  WEFT_HD static R distribution(R x, R bell) {
    if constexpr (sizeof(R) == 8) {
      return 0.5 * std::erfc(-x * 0.70710678118654752440);
    } else {
      const R z = std::fabs(x) * R(0.70710678118654752440);
      const R t = Math::divide(R(1), z * R(0.3275911) + R(1));
      R p = R(1.061405429);
      p = p * t + R(-1.453152027);
      p = p * t + R(1.421413741);
      p = p * t + R(-0.284496736);
      p = p * t + R(0.254829592);
      const R tail = R(0.5) * (p * t) * bell;
      return x < R(0) ? tail : R(1) - tail;
    }
  }
  WEFT_HD static R value(R x) { return x * distribution(x, bell(x)); }
  WEFT_HD static R slope(R x) {
    const R b = bell(x);
    return x * (b * R(0.39894228040143267794)) + distribution(x, b);
  }
};

// Written so that NaN passes: NaN < 0 is false.
template <class R>
struct Relu {
  WEFT_HD static R value(R x) { return x < R(0) ? R(0) : x; }
  WEFT_HD static R slope(R x) { return x > R(0) ? R(1) : R(0); }
};

}  // namespace weft::kernels::functors
