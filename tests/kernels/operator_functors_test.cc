// The arithmetic of the CUDA operators, on the CPU: stated error bounds, ends of the range, and how
// element-wise kernels find their elements.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "kernels/activation.h"
#include "kernels/cuda/walk.h"
#include "kernels/functors/activation.h"
#include "kernels/functors/best.h"
#include "kernels/functors/elementwise.h"
#include "kernels/functors/softmax.h"

namespace weft::kernels::functors {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

template <template <class, class> class Gelu, class Math>
void check_gelu_error(GeluKind kind) {
  for (double v = -30; v <= 30; v += 1.0 / 512) {
    const double one = 1.0;
    double value = 0, slope = 0;
    gelu(kind, DType::f64, Elems(1), &v, &value);
    gelu_backward(kind, DType::f64, Elems(1), &one, &v, &slope);
    const auto x = static_cast<float>(v);
    using F = Gelu<float, Math>;
    using D = Gelu<double, AccurateMath<double>>;
    ASSERT_NEAR(static_cast<double>(F::value(x)), value, 4e-7 * (1 + std::abs(v))) << v;
    ASSERT_NEAR(static_cast<double>(F::slope(x)), slope, 2e-6) << v;
    ASSERT_NEAR(D::value(v), value, 1e-15 * (1 + std::abs(v))) << v;
    ASSERT_NEAR(D::slope(v), slope, 1e-14) << v;
  }
}

TEST(OperatorFunctorsTest, GeluIsWithinItsStatedError) {
  check_gelu_error<GeluTanh, AccurateMath<float>>(GeluKind::tanh);
  check_gelu_error<GeluTanh, FastMath>(GeluKind::tanh);
  check_gelu_error<GeluExact, AccurateMath<float>>(GeluKind::exact);
  check_gelu_error<GeluExact, FastMath>(GeluKind::exact);
}

TEST(OperatorFunctorsTest, GeluAtTheEnds) {
  const float top = std::numeric_limits<float>::max();
  using F = GeluTanh<float, FastMath>;
  EXPECT_EQ(F::value(kInf), kInf);
  EXPECT_EQ(F::value(top), top);
  EXPECT_EQ(F::value(-top), 0.0f);
  EXPECT_EQ(F::slope(top), 1.0f);
  EXPECT_EQ(F::slope(-top), 0.0f);
  EXPECT_EQ(F::slope(0.0f), 0.5f);
  EXPECT_TRUE(std::isnan(F::value(std::nanf(""))));
  EXPECT_TRUE(std::isnan(Relu<float>::value(std::nanf(""))));
  EXPECT_EQ(Relu<float>::slope(0.0f), 0.0f);
}

TEST(OperatorFunctorsTest, ExpSumAgreesWithTwoPasses) {
  std::mt19937_64 random(1);
  std::normal_distribution<double> draw(0.0, 20.0);
  for (int round = 0; round < 100; ++round) {
    double x[64], top = -1e300, sum = 0;
    for (double& v : x) top = std::max(top, v = draw(random));
    for (const double v : x) sum += std::exp(v - top);
    ExpSum<double, AccurateMath<double>> left, right;
    for (int i = 0; i < 64; i += 4) {
      const double four[4] = {x[i], x[i + 1], x[i + 2], x[i + 3]};
      (i < 20 ? left : right).add(four);
    }
    const double highest = std::max(left.top, right.top);
    left.raise(highest);
    right.raise(highest);
    left.sum += right.sum;
    ASSERT_NEAR(left.log_sum(), top + std::log(sum), 1e-12 * (1 + std::abs(top)));
  }
}

TEST(OperatorFunctorsTest, ExpSumOfInfinitiesAndNaN) {
  using Sum = ExpSum<float, FastMath>;
  const auto log_sum = [](float a, float b, float c, float d) {
    Sum sum;
    sum.add({a, b});
    sum.add({c, d});
    return sum.log_sum();
  };
  EXPECT_FLOAT_EQ(log_sum(-kInf, -kInf, 3, -kInf), 3.0f);
  EXPECT_FLOAT_EQ(log_sum(3, -kInf, -kInf, -kInf), 3.0f);
  EXPECT_TRUE(std::isnan(log_sum(-kInf, -kInf, -kInf, -kInf)));
  EXPECT_TRUE(std::isnan(log_sum(1, kInf, 0, 0)));
  EXPECT_TRUE(std::isnan(log_sum(0, 0, std::nanf(""), 0)));
  EXPECT_TRUE(std::isnan(log_sum(-kInf, std::nanf(""), -kInf, -kInf)));
}

TEST(OperatorFunctorsTest, BestIsTheFirstOfTheLargestInAnyOrder) {
  const float nan = std::nanf("");
  const std::vector<float> plain = {1, 5, 2, 5}, with_nan = {nan, 9, nan};
  const auto best_of = [](const std::vector<float>& x, bool backwards) {
    Best<float> best{};
    for (std::size_t i = 0; i < x.size(); ++i) {
      const std::size_t at = backwards ? x.size() - 1 - i : i;
      best.take(x[at], static_cast<std::int64_t>(at));
    }
    return best.index;
  };
  for (const bool backwards : {false, true}) {
    EXPECT_EQ(best_of(plain, backwards), 1);
    EXPECT_EQ(best_of(with_nan, backwards), 0);
  }
  Best<float> best{};
  best.take(0.0f, -1);  // nothing
  EXPECT_EQ(best.index, -1);
}

TEST(OperatorFunctorsTest, IntegersWrap) {
  EXPECT_EQ(Add()(std::uint8_t{200}, std::uint8_t{100}, 0), 44);
  EXPECT_EQ(Neg()(std::numeric_limits<std::int32_t>::min(), 0),
            std::numeric_limits<std::int32_t>::min());
  EXPECT_EQ(Mul()(std::int64_t{1} << 62, std::int64_t{6}, 0),
            std::int64_t{-9223372036854775807 - 1});
  EXPECT_EQ(Axpy()(std::int32_t{1}, std::int32_t{3}, static_cast<std::uint64_t>(-2)), -5);
  EXPECT_EQ(Abs()(std::uint8_t{200}, 0), 200);
}

TEST(OperatorFunctorsTest, ExtremesPassNaNOn) {
  const float nan = std::nanf("");
  EXPECT_TRUE(std::isnan(Max()(nan, 1.0f, 0)));
  EXPECT_TRUE(std::isnan(Max()(1.0f, nan, 0)));
  EXPECT_TRUE(std::isnan(Min()(nan, 1.0f, 0)));
  EXPECT_TRUE(std::isnan(Min()(1.0f, nan, 0)));
}

TEST(WalkTest, DivisorsDivide) {
  std::mt19937 random(2);
  std::vector<std::uint32_t> divisors = {1,   2,     3,     5,          7,         64,
                                         641, 65535, 65536, 0x7fffffff, 0x40000001};
  for (int i = 0; i < 200; ++i) divisors.push_back(random() % 0x7fffffffu + 1);
  for (const std::uint32_t d : divisors) {
    const cuda::Divisor divisor(d);
    std::vector<std::uint32_t> values = {0, 1, d - 1, d, d + 1, 0x7fffffff};
    for (int i = 0; i < 200; ++i) values.push_back(random());
    for (const std::uint32_t any : values) {
      const std::uint32_t n = any & 0x7fffffffu;
      ASSERT_EQ(divisor.quotient(n), n / d) << n << " / " << d;
    }
  }
}

TEST(WalkTest, PacksCoverALayoutOnce) {
  const std::int64_t shape[] = {6, 5, 32}, out[] = {160, 32, 1}, in[] = {1, 0, 6},
                     row[] = {0, 0, 1};
  const Dims strides[] = {out, in, row};
  const auto layout = strided::make_layout("test", shape, strides);
  alignas(64) char memory[64];
  const cuda::Place places[] = {{memory, 4}, {memory, 4}, {memory, 4}};
  EXPECT_FALSE(cuda::walks::packs_fit(layout, places, 4));  // `in` walks across
  const auto walk = cuda::make_walk<3>(layout, places, 1);
  EXPECT_EQ(walk.packs, 960);
  for (std::int64_t i = 0; i < walk.packs; ++i) {
    std::int64_t at[3];
    walk.offsets(i, 1, at);
    for (int k = 0; k < 3; ++k) ASSERT_EQ(at[k], strided::offset_of(layout, k, i));
  }
  const Dims rows[] = {out, row};
  const auto broadcast = strided::make_layout("test", shape, rows);
  ASSERT_TRUE(cuda::walks::packs_fit(broadcast, places, 4));
  const auto packs = cuda::make_walk<2>(broadcast, places, 4);
  EXPECT_EQ(packs.packs, 240);
  for (std::int64_t i = 0; i < packs.packs; ++i) {
    std::int64_t at[2];
    packs.offsets(i, 4, at);
    for (int k = 0; k < 2; ++k) ASSERT_EQ(at[k], strided::offset_of(broadcast, k, 4 * i));
  }
}

TEST(WalkTest, ContiguousPacksBeginBeforeMisalignedMemory) {
  alignas(64) char memory[64];
  const auto layout = cuda::walks::flat(10, 2);
  const cuda::Place same[] = {{memory + 12, 4}, {memory + 28, 4}};
  const cuda::Place apart[] = {{memory + 12, 4}, {memory + 20, 4}};
  EXPECT_TRUE(cuda::walks::packs_fit(layout, same, 4));
  EXPECT_FALSE(cuda::walks::packs_fit(layout, apart, 4));
  const auto walk = cuda::make_walk<2>(layout, same, 4);
  EXPECT_EQ(walk.skew, 3);
  EXPECT_EQ(walk.packs, 4);  // of 1, 4, 4 and 1
}

}  // namespace
}  // namespace weft::kernels::functors
