// Exponentials and quotients for kernels that run near memory speed: exact to the last bits where
// results are kept in f32 or f64, in the device's fast forms where they are rounded to a half.
#pragma once

#include <cmath>
#include <type_traits>

#include "kernels/base/half.h"

namespace weft::kernels::functors {

// What T is computed in.
template <class T>
using RealOf = std::conditional_t<std::is_same_v<T, double>, double, float>;

// Within 2 ulp on host and device (CUDA C++ Programming Guide, mathematical functions).
template <class R>
struct AccurateMath {
  WEFT_HD static R exp(R x) { return std::exp(x); }
  WEFT_HD static R divide(R a, R b) { return a / b; }
};

// exp: ex2.approx of x log2(e): 2 ulp and |x| 2^-24 beside, as the product is rounded. divide: 2
// ulp; 0 for |b| above 2^126. The host's forms round in the same places.
struct FastMath {
  WEFT_HD static float exp(float x) {
#if defined(__CUDA_ARCH__)
    return __expf(x);
#else
    return std::exp2(x * 1.44269504f);
#endif
  }
  WEFT_HD static float divide(float a, float b) {
#if defined(__CUDA_ARCH__)
    return __fdividef(a, b);
#else
    return a / b;
#endif
  }
};

// For results stored as T.
template <class T>
using MathFor = std::conditional_t<sizeof(T) == 2, FastMath, AccurateMath<RealOf<T>>>;

}  // namespace weft::kernels::functors
