// The largest of many and where it first stands: what max_axis computes. NaN counts as larger than
// all; of several alike, NaN too, the first stays.
#pragma once

#include <cstdint>

#include "kernels/base/half.h"

namespace weft::kernels::functors {

template <class V>
struct Best {
  V value;
  std::int64_t index = -1;  // -1: nothing yet

  WEFT_HD bool is_beaten_by(V other, std::int64_t at) const {
    if (index < 0) return at >= 0;
    if (at < 0) return false;
    const bool nan = value != value, other_nan = other != other;
    if (nan || other_nan) return other_nan && (!nan || at < index);
    return other > value || (other == value && at < index);
  }
  WEFT_HD void take(V other, std::int64_t at) {
    if (is_beaten_by(other, at)) {
      value = other;
      index = at;
    }
  }
};

}  // namespace weft::kernels::functors
