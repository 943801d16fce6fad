#include "kernels/reduce.h"

#include <gtest/gtest.h>

#include "kernels/base/error.h"
#include "tests/kernels/values.h"

namespace weft::kernels {
namespace {

template <class T>
using Wide = std::conditional_t<std::is_integral_v<T>, std::uint64_t,
                                std::conditional_t<std::is_same_v<T, double>, double, float>>;

template <class T>
T expected(const std::vector<Buffer<T>>& inputs, std::size_t i, ReduceOp op, std::int64_t divisor) {
  using W = Wide<T>;
  W acc = static_cast<W>(inputs[0].get(i));
  for (std::size_t k = 1; k < inputs.size(); ++k) {
    const W next = static_cast<W>(inputs[k].get(i));
    switch (op) {
      case ReduceOp::sum:
      case ReduceOp::avg:
        acc += next;
        break;
      case ReduceOp::prod:
        acc *= next;
        break;
      default:
        if constexpr (std::is_integral_v<T>) {
          const bool less = static_cast<T>(next) < static_cast<T>(acc);
          if (less == (op == ReduceOp::min)) acc = next;
        } else if (!std::isnan(acc)) {
          const bool keep = op == ReduceOp::min ? acc < next : acc > next;
          if (!keep) acc = next;
        }
    }
  }
  if (op != ReduceOp::avg) return T(acc);
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(static_cast<std::int64_t>(static_cast<T>(acc)) / divisor);
  } else {
    return T(acc / static_cast<W>(divisor));
  }
}

struct Setup {
  std::size_t count, inputs, misalignment;
  std::size_t out_is_input = 99;
};

template <class T>
void check(const Setup& setup, ReduceOp op) {
  std::vector<Buffer<T>> inputs;
  for (std::size_t k = 0; k < setup.inputs; ++k) {
    inputs.push_back(
        awkward_buffer<T>(setup.count, setup.misalignment * (k + 1) % 16, setup.count * 31 + k));
  }
  const std::vector<Buffer<T>> before = inputs;
  std::vector<const void*> pointers;
  for (const auto& input : inputs) pointers.push_back(input.data());
  Buffer<T> separate(setup.count, setup.misalignment);
  Buffer<T>& out = setup.out_is_input < setup.inputs ? inputs[setup.out_is_input] : separate;
  for (const std::int64_t divisor : {std::int64_t{4}, std::int64_t{3}}) {
    if (divisor == 3 && (op != ReduceOp::avg || &out != &separate)) continue;
    reduce(out.data(), pointers, Elems(static_cast<std::int64_t>(setup.count)), dtype_of<T>, op,
           divisor);
    for (std::size_t i = 0; i < setup.count; ++i) {
      const T want = expected(before, i, op, divisor);
      ASSERT_TRUE(same(out.get(i), want))
          << name_of(dtype_of<T>) << " " << name_of(op) << " element " << i << " of " << setup.count
          << ", " << setup.inputs << " inputs: got " << as_double(out.get(i)) << ", expected "
          << as_double(want);
    }
    ASSERT_TRUE(out.guards_are_whole());
  }
}

template <class T>
class ReduceTest : public testing::Test {};
using Types =
    testing::Types<double, float, Half, BFloat16, std::int64_t, std::int32_t, std::uint8_t>;
TYPED_TEST_SUITE(ReduceTest, Types);

TYPED_TEST(ReduceTest, MatchesPlainCodeForEveryOperationAndCount) {
  for_each_target([] {
    for (int o = 0; o < kReduceOpCount; ++o) {
      const auto op = static_cast<ReduceOp>(o);
      for (std::size_t count = 0; count <= 200; count += count < 80 ? 1 : 7) {
        ASSERT_NO_FATAL_FAILURE((check<TypeParam>({count, 2, count % 2}, op)));
        ASSERT_NO_FATAL_FAILURE((check<TypeParam>({count, 1 + count % 5, count % 3}, op)));
      }
      ASSERT_NO_FATAL_FAILURE((check<TypeParam>({10007, 2, 0}, op)));
      ASSERT_NO_FATAL_FAILURE((check<TypeParam>({10007, 8, 1}, op)));
    }
  });
}

TYPED_TEST(ReduceTest, TheOutputMayBeAnyInput) {
  for_each_target([] {
    for (int o = 0; o < kReduceOpCount; ++o) {
      for (const std::size_t count : {1, 15, 64, 129, 5000}) {
        for (std::size_t k = 0; k < 3; ++k) {
          ASSERT_NO_FATAL_FAILURE((check<TypeParam>({count, 3, 1, k}, static_cast<ReduceOp>(o))));
          if (k < 2) {
            ASSERT_NO_FATAL_FAILURE((check<TypeParam>({count, 2, 0, k}, static_cast<ReduceOp>(o))));
          }
        }
      }
    }
  });
}

TEST(ReduceHalfTest, RoundsOnceHoweverManyInputs) {
  // 2048 + 1 + 1: rounding after each addition would lose both ones.
  const Half big(2048.0f), one(1.0f);
  const void* const inputs[] = {&big, &one, &one};
  Half out;
  reduce(&out, inputs, Elems(1), DType::f16, ReduceOp::sum);
  EXPECT_EQ(static_cast<float>(out), 2050.0f);
}

TEST(ReduceIntegerTest, WrapsAndTruncatesTowardsZero) {
  const std::int32_t a[] = {2147483647, -7}, b[] = {1, 0};
  const void* const inputs[] = {a, b};
  std::int32_t out[2];
  reduce(out, inputs, Elems(2), DType::i32, ReduceOp::sum);
  EXPECT_EQ(out[0], -2147483647 - 1);
  reduce(out, inputs, Elems(2), DType::i32, ReduceOp::avg, 2);
  EXPECT_EQ(out[1], -3);
}

TEST(ReduceErrorTest, RefusesNoInputAndBadDivisors) {
  float x = 1.0f;
  const void* const inputs[] = {&x};
  EXPECT_THROW(reduce(&x, {}, Elems(1), DType::f32, ReduceOp::sum), InvalidArgument);
  EXPECT_THROW(reduce(&x, inputs, Elems(1), DType::f32, ReduceOp::avg, 0), InvalidArgument);
  EXPECT_THROW(reduce(&x, inputs, Elems(1), DType::f32, ReduceOp::avg, -2), InvalidArgument);
}

}  // namespace
}  // namespace weft::kernels
