// Conversion of one element between any two types: what kernels::cast does where no vector form is
// worth having, and what its vector forms, on the CPU and on a GPU, must agree with bit for bit.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "kernels/base/dtype.h"

namespace weft::kernels {

template <class T>
inline constexpr bool is_half_type = std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>;

// Rounds to odd instead of to nearest, so that rounding once more, to a half, still gives the half
// nearest to `value` (Boldo, Melquiond, "Emulation of FMA and correctly rounded sums: proved
// algorithms using rounding to odd", 2008).
WEFT_HD inline float to_float_odd(double value) {
  const float nearest = static_cast<float>(value);
  if (std::isnan(value) || static_cast<double>(nearest) == value) return nearest;
  auto bits = std::bit_cast<std::uint32_t>(nearest);
  if (std::fabs(static_cast<double>(nearest)) > std::fabs(value)) --bits;  // towards zero
  return std::bit_cast<float>(bits | 1u);
}

// The double nearest to an integer, or, beyond 2^53, its neighbour towards zero with the last bit
// telling whether anything was cut off.
WEFT_HD inline double to_double_odd(std::int64_t value) {
  constexpr std::int64_t kExact = std::int64_t{1} << 53;
  if (value >= -kExact && value <= kExact) return static_cast<double>(value);
  const std::uint64_t magnitude =
      value < 0 ? ~static_cast<std::uint64_t>(value) + 1 : static_cast<std::uint64_t>(value);
  const std::uint64_t sticky = (magnitude & 0x7ffu) != 0 ? 0x800u : 0u;
  const double odd = static_cast<double>((magnitude & ~std::uint64_t{0x7ff}) | sticky);
  return value < 0 ? -odd : odd;
}

template <class To>
WEFT_HD To integer_from(double value) {
  if (std::isnan(value)) return 0;
  if (value >= static_cast<double>(std::numeric_limits<To>::max())) {
    return std::numeric_limits<To>::max();
  }
  if (value <= static_cast<double>(std::numeric_limits<To>::min())) {
    return std::numeric_limits<To>::min();
  }
  return static_cast<To>(value);
}

template <class To>
WEFT_HD To floating_from(double value) {
  if constexpr (is_half_type<To>) {
    return To(to_float_odd(value));
  } else {
    return static_cast<To>(value);
  }
}

// Integers saturate among themselves as well: 300 as u8 is 255.
template <class To, class From>
WEFT_HD To integer_from_integer(From value) {
  const auto wide = static_cast<std::int64_t>(value);
  if (wide > static_cast<std::int64_t>(std::numeric_limits<To>::max())) {
    return std::numeric_limits<To>::max();
  }
  if (wide < static_cast<std::int64_t>(std::numeric_limits<To>::min())) {
    return std::numeric_limits<To>::min();
  }
  return static_cast<To>(wide);
}

template <class To, class From>
WEFT_HD To convert(From value) {
  if constexpr (std::is_same_v<To, From>) {
    return value;
  } else if constexpr (std::is_integral_v<From>) {
    if constexpr (std::is_integral_v<To>) {
      return integer_from_integer<To>(value);
    } else if constexpr (is_half_type<To>) {
      return floating_from<To>(to_double_odd(static_cast<std::int64_t>(value)));
    } else {
      return static_cast<To>(value);
    }
  } else if constexpr (is_half_type<From> || std::is_same_v<From, float>) {
    const auto wide = static_cast<float>(value);
    if constexpr (std::is_integral_v<To>) {
      return integer_from<To>(static_cast<double>(wide));
    } else {
      return To(wide);
    }
  } else if constexpr (std::is_integral_v<To>) {
    return integer_from<To>(value);
  } else {
    return floating_from<To>(value);
  }
}

// value * scale, converted: the product is taken in f32 between types of at most 32 floating bits,
// else in f64.
template <class To, class From>
WEFT_HD To convert_scaled(From value, double scale) {
  if constexpr (is_floating(dtype_of<From>) && is_floating(dtype_of<To>) && sizeof(From) <= 4 &&
                sizeof(To) <= 4) {
    return To(static_cast<float>(value) * static_cast<float>(scale));
  } else {
    const double product = convert<double>(value) * scale;
    return convert<To>(product);
  }
}

}  // namespace weft::kernels
