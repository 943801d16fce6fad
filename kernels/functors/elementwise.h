// The operations of kernels/elementwise.h on one element: what its CUDA kernels compute. C is f32
// (halves come widened), f64, or an integer type; integers wrap, as they do on the CPU.
//
// Error on a device, in f32: exp, log and sqrt 1 ulp, tanh and sigmoid 4, powers other than the
// exact ones 4 (CUDA C++ Programming Guide, mathematical functions); f64: 2 ulp.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "kernels/base/half.h"
#include "kernels/elementwise.h"

namespace weft::kernels::functors {

// The scalar argument: the type itself, or 64 wrapping bits.
template <class C>
using ScalarOf = std::conditional_t<std::is_integral_v<C>, std::uint64_t, C>;

// Exponents that have a cheap exact form; others take std::pow.
constexpr bool has_exact_power(double exponent) {
  return exponent == 2.0 || exponent == 1.0 || exponent == 3.0 || exponent == 0.0 ||
         exponent == 0.5 || exponent == -0.5 || exponent == -1.0 || exponent == -2.0;
}

template <class C>
WEFT_HD C exact_power(C x, C exponent) {
  if (exponent == C(2)) return x * x;
  if (exponent == C(3)) return x * x * x;
  if (exponent == C(0)) return C(1);
  if (exponent == C(0.5)) return std::sqrt(x);
  if (exponent == C(-0.5)) return C(1) / std::sqrt(x);
  if (exponent == C(-1)) return C(1) / x;
  if (exponent == C(-2)) return C(1) / (x * x);
  return x;
}

// Long code that is called rather than repeated for every element of a pack.
template <class C>
WEFT_HD __attribute__((noinline)) C any_power(C x, C exponent) {
  return std::pow(x, exponent);
}

template <class C>
WEFT_HD bool below_zero(C x) {
  if constexpr (std::is_unsigned_v<C>) {
    return false;
  } else {
    return x < C(0);
  }
}

// Each takes (x, s).
struct Neg {
  template <class C>
  WEFT_HD C operator()(C x, ScalarOf<C>) const {
    if constexpr (std::is_integral_v<C>) {
      return static_cast<C>(std::uint64_t{0} - static_cast<std::uint64_t>(x));
    } else {
      return -x;
    }
  }
};
struct Abs {
  template <class C>
  WEFT_HD C operator()(C x, ScalarOf<C> s) const {
    if constexpr (std::is_integral_v<C>) {
      return below_zero(x) ? Neg()(x, s) : x;
    } else {
      return std::fabs(x);
    }
  }
};
struct Exp {
  template <class C>
  WEFT_HD C operator()(C x, C) const {
    return std::exp(x);
  }
};
struct Log {
  template <class C>
  WEFT_HD C operator()(C x, C) const {
    return std::log(x);
  }
};
struct Sqrt {
  template <class C>
  WEFT_HD C operator()(C x, C) const {
    return std::sqrt(x);
  }
};
struct Tanh {
  template <class C>
  WEFT_HD C operator()(C x, C) const {
    return std::tanh(x);
  }
};
struct Sigmoid {
  template <class C>
  WEFT_HD C operator()(C x, C) const {
    return C(1) / (C(1) + std::exp(-x));
  }
};
struct PlainRelu {
  template <class C>
  WEFT_HD C operator()(C x, ScalarOf<C>) const {
    return below_zero(x) ? C(0) : x;
  }
};
struct ExactPower {
  template <class C>
  WEFT_HD C operator()(C x, C s) const {
    return exact_power(x, s);
  }
};
struct Power {
  template <class C>
  WEFT_HD C operator()(C x, C s) const {
    return any_power(x, s);
  }
};
struct AddScalar {
  template <class C>
  WEFT_HD C operator()(C x, ScalarOf<C> s) const {
    return static_cast<C>(static_cast<ScalarOf<C>>(x) + s);
  }
};
struct MulScalar {
  template <class C>
  WEFT_HD C operator()(C x, ScalarOf<C> s) const {
    return static_cast<C>(static_cast<ScalarOf<C>>(x) * s);
  }
};

// Each takes (a, b, s).
struct Add {
  template <class C>
  WEFT_HD C operator()(C a, C b, ScalarOf<C>) const {
    return static_cast<C>(static_cast<ScalarOf<C>>(a) + static_cast<ScalarOf<C>>(b));
  }
};
struct Sub {
  template <class C>
  WEFT_HD C operator()(C a, C b, ScalarOf<C>) const {
    return static_cast<C>(static_cast<ScalarOf<C>>(a) - static_cast<ScalarOf<C>>(b));
  }
};
struct Mul {
  template <class C>
  WEFT_HD C operator()(C a, C b, ScalarOf<C>) const {
    return static_cast<C>(static_cast<ScalarOf<C>>(a) * static_cast<ScalarOf<C>>(b));
  }
};
// NaN where either side is: a NaN in b is what is neither above nor below a.
struct Max {
  template <class C>
  WEFT_HD C operator()(C a, C b, ScalarOf<C>) const {
    return a != a || a > b ? a : b;
  }
};
struct Min {
  template <class C>
  WEFT_HD C operator()(C a, C b, ScalarOf<C>) const {
    return a != a || a < b ? a : b;
  }
};
struct Axpy {  // a + s b
  template <class C>
  WEFT_HD C operator()(C a, C b, ScalarOf<C> s) const {
    if constexpr (std::is_integral_v<C>) {
      return static_cast<C>(static_cast<std::uint64_t>(a) + s * static_cast<std::uint64_t>(b));
    } else {
      return std::fma(s, b, a);
    }
  }
};
struct Div {
  template <class C>
  WEFT_HD C operator()(C a, C b, C) const {
    return a / b;
  }
};
struct SqrtBackward {
  template <class C>
  WEFT_HD C operator()(C g, C y, C) const {
    return g / (y + y);
  }
};
struct TanhBackward {
  template <class C>
  WEFT_HD C operator()(C g, C y, C) const {
    return g * std::fma(-y, y, C(1));
  }
};
struct SigmoidBackward {
  template <class C>
  WEFT_HD C operator()(C g, C y, C) const {
    return g * y * (C(1) - y);
  }
};
struct ReluBackward {
  template <class C>
  WEFT_HD C operator()(C g, C y, C) const {
    return y > C(0) ? g : C(0);
  }
};
struct AbsBackward {
  template <class C>
  WEFT_HD C operator()(C g, C x, C) const {
    return x > C(0) ? g : x < C(0) ? -g : C(0);
  }
};
// The exponent is s; where s - 1 has an exact form, and where it has not.
struct ExactPowerBackward {
  template <class C>
  WEFT_HD C operator()(C g, C x, C s) const {
    return s == C(0) ? C(0) : g * s * exact_power(x, s - C(1));
  }
};
struct PowerBackward {
  template <class C>
  WEFT_HD C operator()(C g, C x, C s) const {
    return g * s * any_power(x, s - C(1));
  }
};

}  // namespace weft::kernels::functors
