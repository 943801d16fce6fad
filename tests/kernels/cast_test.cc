#include "kernels/cast.h"

#include <gtest/gtest.h>

#include "tests/kernels/values.h"

namespace weft::kernels {
namespace {

// Nearest number of type T to an exact value (a long double holds every i64 and f64 exactly), ties
// to even: found among the neighbours of a first guess, without looking at bits of the value.
template <class T>
T nearest_half(long double value) {
  if (std::isnan(value)) return T(std::numeric_limits<float>::quiet_NaN());
  const long double magnitude = std::fabs(value);
  int low = 0, high = 0x7fff;  // patterns of positive numbers grow with their value
  const auto value_of = [](int bits) {
    T half;
    half.bits = static_cast<std::uint16_t>(bits);
    return static_cast<long double>(static_cast<float>(half));
  };
  while (std::isnan(value_of(high))) --high;                               // infinity
  const long double beyond = 2 * value_of(high - 1) - value_of(high - 2);  // where infinity stands
  const auto place = [&](int bits) { return bits == high ? beyond : value_of(bits); };
  int top = high;
  while (top - low > 1) {
    const int middle = (low + top) / 2;
    (place(middle) <= magnitude ? low : top) = middle;
  }
  T result;
  const long double below = magnitude - place(low), above = place(top) - magnitude;
  const bool up = above < below || (above == below && low % 2 == 1);
  result.bits = static_cast<std::uint16_t>((up ? top : low) | (std::signbit(value) ? 0x8000 : 0));
  return result;
}

template <class To, class From>
To expected(From from) {
  long double value;
  if constexpr (std::is_integral_v<From>) {
    value = static_cast<long double>(from);
  } else {
    value = as_double(from);
  }
  if constexpr (std::is_integral_v<To>) {
    if (std::isnan(value)) return 0;
    if (value >= static_cast<long double>(std::numeric_limits<To>::max())) {
      return std::numeric_limits<To>::max();
    }
    if (value <= static_cast<long double>(std::numeric_limits<To>::min())) {
      return std::numeric_limits<To>::min();
    }
    return static_cast<To>(value);
  } else if constexpr (sizeof(To) == 2) {
    return nearest_half<To>(value);
  } else {
    return static_cast<To>(value);
  }
}

template <class To, class From>
void check_values(const Buffer<From>& from, std::size_t misalignment) {
  Buffer<To> to(from.size(), misalignment);
  cast(to.data(), dtype_of<To>, from.data(), dtype_of<From>,
       Elems(static_cast<std::int64_t>(from.size())));
  for (std::size_t i = 0; i < from.size(); ++i) {
    const To want = expected<To>(from.get(i));
    ASSERT_TRUE(same(to.get(i), want))
        << name_of(dtype_of<From>) << " to " << name_of(dtype_of<To>) << ", element " << i << " of "
        << from.size() << ": " << as_double(from.get(i)) << " became " << as_double(to.get(i))
        << ", expected " << as_double(want);
  }
  ASSERT_TRUE(to.guards_are_whole());
}

TEST(CastTest, EveryPairOfTypesAtEveryShortCount) {
  for_each_target([] {
    for (int t = 0; t < kDTypeCount; ++t) {
      for (int f = 0; f < kDTypeCount; ++f) {
        dispatch(static_cast<DType>(t), [&]<class To>() {
          dispatch(static_cast<DType>(f), [&]<class From>() {
            for (std::size_t count = 0; count <= 130; count += count < 36 ? 1 : 13) {
              check_values<To>(awkward_buffer<From>(count, count % 3, count), count % 2);
              if (testing::Test::HasFatalFailure()) return;
            }
          });
        });
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  });
}

// All of the other half's patterns, and f32 values on, just above and just below every tie.
template <class T>
void check_half() {
  Buffer<T> patterns(65536);
  Buffer<float> near_ties(3 * 65536);
  for (std::size_t i = 0; i < 65536; ++i) {
    T half;
    half.bits = static_cast<std::uint16_t>(i);
    patterns.set(i, half);
    T next = half;
    next.bits = static_cast<std::uint16_t>(i + 1);
    const float tie = (static_cast<float>(half) + static_cast<float>(next)) / 2;
    near_ties.set(3 * i, tie);
    near_ties.set(3 * i + 1, std::nextafter(tie, 1e38f));
    near_ties.set(3 * i + 2, std::nextafter(tie, -1e38f));
  }
  Buffer<float> wide(65536);
  cast(wide.data(), DType::f32, patterns.data(), dtype_of<T>, Elems(65536));
  for (std::size_t i = 0; i < 65536; ++i) {
    const auto want = std::bit_cast<std::uint32_t>(static_cast<float>(patterns.get(i)));
    ASSERT_EQ(std::bit_cast<std::uint32_t>(wide.get(i)), want) << i;
  }
  Buffer<T> narrow(near_ties.size());
  cast(narrow.data(), dtype_of<T>, near_ties.data(), DType::f32,
       Elems(static_cast<std::int64_t>(near_ties.size())));
  for (std::size_t i = 0; i < near_ties.size(); ++i) {
    ASSERT_EQ(narrow.get(i).bits, T(near_ties.get(i)).bits) << near_ties.get(i);
  }
}

TEST(CastTest, VectorAndScalarConversionsAgreeToTheBit) {
  for_each_target([] {
    ASSERT_NO_FATAL_FAILURE(check_half<Half>());
    ASSERT_NO_FATAL_FAILURE(check_half<BFloat16>());
    std::mt19937_64 random(3);
    Buffer<float> any(200000);
    for (std::size_t i = 0; i < any.size(); ++i) {
      any.set(i, std::bit_cast<float>(static_cast<std::uint32_t>(random())));
    }
    Buffer<Half> half(any.size());
    Buffer<BFloat16> brain(any.size());
    cast(half.data(), DType::f16, any.data(), DType::f32, Elems(200000));
    cast(brain.data(), DType::bf16, any.data(), DType::f32, Elems(200000));
    for (std::size_t i = 0; i < any.size(); ++i) {
      ASSERT_EQ(half.get(i).bits, Half(any.get(i)).bits) << any.get(i);
      ASSERT_EQ(brain.get(i).bits, BFloat16(any.get(i)).bits) << any.get(i);
    }
  });
}

TEST(CastTest, WideTypesReachHalvesWithOneRounding) {
  // Through f32 each of these would land on a tie and then round the wrong way.
  const double doubles[] = {1.0 + 0x1p-11 + 0x1p-40, 1.0 + 0x1p-8 + 0x1p-45, 0x1p-25 + 0x1p-60,
                            65520.0 - 0x1p-30, 0x1p-134 + 0x1p-180};
  Buffer<double> from(5);
  for (std::size_t i = 0; i < 5; ++i) from.set(i, doubles[i]);
  check_values<Half>(from, 0);
  check_values<BFloat16>(from, 0);
  const std::int64_t integers[] = {
      (1 << 24) + 1, (std::int64_t{257} << 54) + (1 << 20), (std::int64_t{0x101} << 53) + 1,
      -((std::int64_t{0x181} << 53) + 1), std::numeric_limits<std::int64_t>::min()};
  Buffer<std::int64_t> whole(5);
  for (std::size_t i = 0; i < 5; ++i) whole.set(i, integers[i]);
  check_values<Half>(whole, 0);
  check_values<BFloat16>(whole, 0);
  check_values<float>(whole, 0);
}

TEST(CastTest, ScalesBeforeItConverts) {
  for_each_target([] {
    const auto from = ordinary_buffer<float>(77, 5);
    Buffer<BFloat16> low(77);
    Buffer<double> high(77);
    Buffer<std::int32_t> whole(77);
    cast(low.data(), DType::bf16, from.data(), DType::f32, Elems(77), 0.125);
    cast(high.data(), DType::f64, from.data(), DType::f32, Elems(77), 1.0 / 3.0);
    cast(whole.data(), DType::i32, from.data(), DType::f32, Elems(77), 1000.0);
    for (std::size_t i = 0; i < 77; ++i) {
      EXPECT_EQ(low.get(i).bits, BFloat16(from.get(i) * 0.125f).bits);
      EXPECT_EQ(high.get(i), static_cast<double>(from.get(i)) * (1.0 / 3.0));
      EXPECT_EQ(whole.get(i), static_cast<std::int32_t>(static_cast<double>(from.get(i)) * 1000.0));
    }
  });
}

TEST(CastTest, WorksInPlaceBetweenTypesOfOneSize) {
  auto buffer = ordinary_buffer<Half>(1001, 9);
  const auto before = buffer;
  cast(buffer.data(), DType::bf16, buffer.data(), DType::f16, Elems(1001));
  for (std::size_t i = 0; i < 1001; ++i) {
    ASSERT_EQ(buffer.get(i).bits, BFloat16(static_cast<float>(before.get(i))).bits);
  }
}

TEST(CastTest, RowsAreCastAsOneByOneAndWhatLiesBetweenStays) {
  for_each_target([] {
    constexpr std::size_t kRows = 5;
    for (const std::size_t count : {std::size_t{1}, std::size_t{16}, std::size_t{37}}) {
      for (const std::size_t gap : {std::size_t{0}, std::size_t{3}}) {
        const std::size_t stride = count + gap;
        const auto from = ordinary_buffer<float>(kRows * stride, 11);
        Buffer<BFloat16> to(kRows * stride);
        for (std::size_t i = 0; i < kRows * stride; ++i) to.set(i, BFloat16(-1.0f));
        const auto step = static_cast<std::int64_t>(stride);
        cast_rows({to.data(), DType::bf16, step}, {from.data(), DType::f32, step},
                  static_cast<std::int64_t>(kRows), Elems(static_cast<std::int64_t>(count)));
        for (std::size_t i = 0; i < kRows * stride; ++i) {
          const bool inside = i % stride < count;
          EXPECT_EQ(to.get(i).bits, BFloat16(inside ? from.get(i) : -1.0f).bits) << i;
        }
      }
    }
  });
}

}  // namespace
}  // namespace weft::kernels
