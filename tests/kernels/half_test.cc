// The scalar conversions of kernels/base/half.h against arithmetic that knows nothing of bits.
#include "kernels/base/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace weft {
namespace {

struct Format {
  int mantissa_bits, exponent_min, exponent_max;  // of normal numbers, value = 1.m * 2^e
};
constexpr Format kF16{10, -14, 15};
constexpr Format kBf16{7, -126, 127};

// The value of a pattern, from the definition of the format.
double value_of(std::uint16_t bits, const Format& format) {
  const int fields = 15 - format.mantissa_bits;
  const int exponent = (bits >> format.mantissa_bits) & ((1 << fields) - 1);
  const int mantissa = bits & ((1 << format.mantissa_bits) - 1);
  const double sign = bits & 0x8000 ? -1.0 : 1.0;
  if (exponent == (1 << fields) - 1) {
    return mantissa != 0 ? std::numeric_limits<double>::quiet_NaN()
                         : sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(mantissa, format.exponent_min - format.mantissa_bits);
  return sign * std::ldexp(mantissa + (1 << format.mantissa_bits),
                           exponent - 1 + format.exponent_min - format.mantissa_bits);
}

// Rounds to the nearest multiple of the spacing at |x|; nearbyint breaks ties to even.
double rounded(double x, const Format& format) {
  if (std::isnan(x) || std::isinf(x) || x == 0.0) return x;
  const int exponent = std::max(std::ilogb(x), format.exponent_min);
  const double spacing = std::ldexp(1.0, exponent - format.mantissa_bits);
  const double result = std::nearbyint(x / spacing) * spacing;
  const double largest =
      std::ldexp(2.0 - std::ldexp(1.0, -format.mantissa_bits), format.exponent_max);
  if (std::fabs(result) > largest) return std::copysign(std::numeric_limits<double>::infinity(), x);
  return result;
}

template <class T>
void expect_rounds(float x, const Format& format) {
  const T converted(x);
  const double back = value_of(converted.bits, format);
  const double expected = rounded(static_cast<double>(x), format);
  if (std::isnan(expected)) {
    ASSERT_TRUE(std::isnan(back)) << x;
    return;
  }
  ASSERT_EQ(back, expected) << std::hexfloat << x;
  ASSERT_EQ(std::signbit(back), std::signbit(x)) << x;
}

template <class T>
void check_every_pattern(const Format& format) {
  for (int i = 0; i < 65536; ++i) {
    T half;
    half.bits = static_cast<std::uint16_t>(i);
    const auto value = static_cast<float>(half);
    const double expected = value_of(half.bits, format);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(value)) << i;
      ASSERT_TRUE(std::isnan(static_cast<float>(T(value)))) << i;
      continue;
    }
    ASSERT_EQ(static_cast<double>(value), expected) << i;
    ASSERT_EQ(T(value).bits, half.bits) << i;
  }
}

TEST(HalfTest, EveryPatternWidensToItsValueAndComesBack) {
  check_every_pattern<Half>(kF16);
  check_every_pattern<BFloat16>(kBf16);
}

template <class T>
void check_ties(const Format& format) {
  for (int i = 0; i < 0x7fff; ++i) {
    const double low = value_of(static_cast<std::uint16_t>(i), format);
    double high = value_of(static_cast<std::uint16_t>(i + 1), format);
    if (std::isnan(low) || std::isnan(high) || std::isinf(low)) continue;
    if (std::isinf(high)) high = std::ldexp(1.0, format.exponent_max + 1);
    const auto tie = static_cast<float>((low + high) / 2);
    const float infinity = std::numeric_limits<float>::infinity();
    for (const float x : {tie, std::nextafter(tie, infinity), std::nextafter(tie, -infinity)}) {
      expect_rounds<T>(x, format);
      expect_rounds<T>(-x, format);
    }
  }
}

TEST(HalfTest, TiesGoToEvenAndTheirNeighboursToTheNearest) {
  check_ties<Half>(kF16);
  check_ties<BFloat16>(kBf16);
}

TEST(HalfTest, AnyFloatRoundsToNearest) {
  std::mt19937 random(7);
  for (int i = 0; i < 500000; ++i) {
    const auto x = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    expect_rounds<Half>(x, kF16);
    expect_rounds<BFloat16>(x, kBf16);
  }
}

TEST(HalfTest, NanStaysNanAndBecomesQuiet) {
  for (const std::uint32_t bits : {0x7f800001u, 0x7fc00000u, 0x7fffffffu, 0xff800001u}) {
    const auto nan = std::bit_cast<float>(bits);
    EXPECT_EQ(Half(nan).bits & 0x7e00, 0x7e00);
    EXPECT_EQ(BFloat16(nan).bits & 0x7fc0, 0x7fc0);
    EXPECT_EQ(Half(nan).bits >> 15, bits >> 31);
    EXPECT_EQ(BFloat16(nan).bits >> 15, bits >> 31);
  }
}

}  // namespace
}  // namespace weft
