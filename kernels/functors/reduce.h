// The operations of reductions on one element: what the CPU's vectors and CUDA kernels both do, to
// the bit. Halves are folded in f32.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/base/half.h"
#include "kernels/reduce.h"

namespace weft::kernels {

// What elements of T are folded in.
template <class T>
using ReduceCompute =
    std::conditional_t<std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>, float, T>;

// a op b; avg adds. C: a ReduceCompute. Integers wrap.
template <ReduceOp kOp, class C>
WEFT_HD inline C reduce_pair(C a, C b) {
  if constexpr (kOp == ReduceOp::min || kOp == ReduceOp::max) {
    const bool keep = kOp == ReduceOp::max ? a > b : a < b;
    if constexpr (std::is_integral_v<C>) {
      return keep ? a : b;
    } else {
      return a != a || keep ? a : b;  // a NaN on either side wins
    }
  } else if constexpr (std::is_integral_v<C>) {
    const auto x = static_cast<std::uint64_t>(a), y = static_cast<std::uint64_t>(b);
    return static_cast<C>(kOp == ReduceOp::prod ? x * y : x + y);
  } else {
    return kOp == ReduceOp::prod ? a * b : a + b;
  }
}

// The last step of avg: a sum to a mean. divisor >= 1.
template <class C>
struct Mean {
  C divisor, reciprocal;
  bool exact;  // a power of two has an exact reciprocal: the product is the quotient

  WEFT_HD explicit Mean(std::int64_t by)
      : divisor(static_cast<C>(by)), reciprocal(C(1) / divisor), exact((by & (by - 1)) == 0) {}
  WEFT_HD C operator()(C sum) const { return exact ? sum * reciprocal : sum / divisor; }
};

// Integers: the quotient is taken in i64 and truncates towards zero.
template <class C>
requires std::is_integral_v<C>
struct Mean<C> {
  std::int64_t divisor;

  WEFT_HD explicit Mean(std::int64_t by) : divisor(by) {}
  WEFT_HD C operator()(C sum) const {
    return static_cast<C>(static_cast<std::int64_t>(sum) / divisor);
  }
};

}  // namespace weft::kernels
