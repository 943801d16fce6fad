#include "kernels/cast.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

namespace weft::kernels {
namespace {

template <class To>
To from_double(double value) {
  if constexpr (std::is_integral_v<To>) {
    if (std::isnan(value)) return 0;
    if (value >= static_cast<double>(std::numeric_limits<To>::max())) {
      return std::numeric_limits<To>::max();
    }
    if (value <= static_cast<double>(std::numeric_limits<To>::min())) {
      return std::numeric_limits<To>::min();
    }
    return static_cast<To>(value);
  } else if constexpr (sizeof(To) == 2) {
    return To(static_cast<float>(value));
  } else {
    return static_cast<To>(value);
  }
}

template <class From>
double to_double(From value) {
  if constexpr (sizeof(From) == 2) {
    return static_cast<double>(static_cast<float>(value));
  } else {
    return static_cast<double>(value);
  }
}

}  // namespace

void cast(void* to, DType to_type, const void* from, DType from_type, Elems count, double scale) {
  dispatch(to_type, [&]<class To>() {
    dispatch(from_type, [&]<class From>() {
      for (std::int64_t i = 0; i < count.value; ++i) {
        From value;
        std::memcpy(&value, static_cast<const From*>(from) + i, sizeof value);
        To result;
        if constexpr (std::is_integral_v<To> && std::is_integral_v<From>) {
          result = scale == 1.0 ? static_cast<To>(value)
                                : from_double<To>(static_cast<double>(value) * scale);
        } else {
          result = from_double<To>(to_double(value) * scale);
        }
        std::memcpy(static_cast<To*>(to) + i, &result, sizeof result);
      }
    });
  });
}

}  // namespace weft::kernels
