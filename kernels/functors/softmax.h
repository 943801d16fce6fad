// The sum of exponentials of a row, taken in one pass: Milakov, Gimelshein, "Online normalizer
// calculation for softmax", 2018.
#pragma once

#include <cmath>
#include <limits>

#include "kernels/functors/math.h"

namespace weft::kernels::functors {

// sum = the sum of e^(x - top) over what was added; top is the largest x, -infinity at first. A NaN
// makes the sum NaN, as does +infinity.
template <class R, class Math>
struct ExpSum {
  R top = -std::numeric_limits<R>::infinity();
  R sum = R(0);

  // Several at once, so that the sum is rescaled once.
  template <int kCount>
  WEFT_HD void add(const R (&x)[kCount]) {
    R highest = top;
    for (int i = 0; i < kCount; ++i) highest = x[i] > highest ? x[i] : highest;
    raise(highest);
    // Nothing but -infinity so far adds nothing; a NaN among them must still be seen.
    const R shift = top == -std::numeric_limits<R>::infinity() ? R(0) : top;
    for (int i = 0; i < kCount; ++i) sum += Math::exp(x[i] - shift);
  }
  // As if all were relative to `highest`, which is at or above top.
  WEFT_HD void raise(R highest) {
    if (highest > top) {
      sum *= Math::exp(top - highest);  // 0 * 0 at first
      top = highest;
    }
  }
  // NaN for a row of nothing but -infinity.
  WEFT_HD R log_sum() const {
    return top == -std::numeric_limits<R>::infinity() ? top - top : top + std::log(sum);
  }
};

}  // namespace weft::kernels::functors
