// The operators' kernels by themselves: random words, accuracy over the whole range, aliasing.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "kernels/activation.h"
#include "kernels/base/error.h"
#include "kernels/cross_entropy.h"
#include "kernels/dropout.h"
#include "kernels/layer_norm.h"
#include "kernels/philox.h"
#include "kernels/softmax.h"

namespace weft::kernels {
namespace {

std::vector<float> normal(std::size_t n, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> draw;
  std::vector<float> values(n);
  for (float& value : values) value = draw(engine);
  return values;
}

// The known answers that Salmon et al. publish with their implementation (Random123,
// philox4x32-10).
TEST(PhiloxTest, KnownAnswers) {
  struct Answer {
    Philox::Block counter;
    std::uint32_t key0, key1;
    Philox::Block expected;
  };
  const std::vector<Answer> answers = {
      {{{0, 0, 0, 0}}, 0, 0, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}},
      {{{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}},
       0xffffffff,
       0xffffffff,
       {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}},
      {{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}},
       0xa4093822,
       0x299f31d0,
       {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}}};
  for (const auto& answer : answers) {
    const auto block = Philox::encrypt(answer.counter, answer.key0, answer.key1);
    for (int i = 0; i < 4; ++i) EXPECT_EQ(block.word[i], answer.expected.word[i]);
  }
}

TEST(PhiloxTest, VectorWordsAreTheStreamFromAnyPosition) {
  const Philox philox{0x123456789abcdef0u, 0xfedcba9876543210u};
  // The last starts before, and runs past, the end of a counter word.
  for (const std::uint64_t first :
       {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{7}, (std::uint64_t{1} << 34) - 30}) {
    for (const std::int64_t count : {0, 1, 3, 4, 5, 64, 131, 300}) {
      std::vector<std::uint32_t> words(static_cast<std::size_t>(count) + 1, 0xabababab);
      philox_words(philox.seed, philox.stream, first, Elems(count), words.data());
      for (std::int64_t i = 0; i < count; ++i) {
        ASSERT_EQ(words[static_cast<std::size_t>(i)],
                  philox.at(first + static_cast<std::uint64_t>(i)))
            << "word " << i << " of " << count << " from " << first;
      }
      EXPECT_EQ(words.back(), 0xabababab);
    }
  }
}

TEST(PhiloxTest, UnitIntervals) {
  EXPECT_EQ(Philox::to_float(0), 0.0f);
  EXPECT_LT(Philox::to_float(0xffffffff), 1.0f);
  EXPECT_EQ(Philox::to_double(0, 0), 0.0);
  EXPECT_LT(Philox::to_double(0xffffffff, 0xffffffff), 1.0);
  EXPECT_EQ(Philox::to_double(0x80000000, 0), 0.5);
}

TEST(ActivationTest, FloatGeluIsWithinItsStatedError) {
  std::vector<float> x;
  for (double v = -30; v <= 30; v += 1.0 / 512) x.push_back(static_cast<float>(v));
  const std::size_t n = x.size();
  std::vector<double> wide(x.begin(), x.end()), exact(n), slope(n);
  const std::vector<float> ones(n, 1.0f);
  const std::vector<double> wide_ones(n, 1.0);
  std::vector<float> y(n), dx(n);
  const Elems count(static_cast<std::int64_t>(n));
  for (const GeluKind kind : {GeluKind::exact, GeluKind::tanh}) {
    gelu(kind, DType::f32, count, x.data(), y.data());
    gelu(kind, DType::f64, count, wide.data(), exact.data());
    gelu_backward(kind, DType::f32, count, ones.data(), x.data(), dx.data());
    gelu_backward(kind, DType::f64, count, wide_ones.data(), wide.data(), slope.data());
    for (std::size_t i = 0; i < n; ++i) {
      const double v = wide[i];
      const double plain =
          kind == GeluKind::tanh
              ? 0.5 * v *
                    (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (v + 0.044715 * v * v * v)))
              : 0.5 * v * (1 + std::erf(v / std::sqrt(2.0)));
      ASSERT_NEAR(exact[i], plain, 1e-13 * (1 + std::abs(v))) << v;
      ASSERT_NEAR(static_cast<double>(y[i]), exact[i], 4e-7 * (1 + std::abs(v))) << v;
      ASSERT_NEAR(static_cast<double>(dx[i]), slope[i], 2e-6) << v;
    }
  }
}

TEST(ActivationTest, GeluAtTheEnds) {
  const float inf = std::numeric_limits<float>::infinity(), top = std::numeric_limits<float>::max();
  const std::vector<float> x = {inf, top, -top, 0.0f, -0.0f, 1e-40f};
  std::vector<float> y(x.size());
  gelu(GeluKind::tanh, DType::f32, Elems(6), x.data(), y.data());
  EXPECT_EQ(y[0], inf);
  EXPECT_EQ(y[1], top);
  EXPECT_EQ(y[2], 0.0f);
  EXPECT_EQ(y[3], 0.0f);
  const std::vector<float> ones(6, 1.0f);
  gelu_backward(GeluKind::tanh, DType::f32, Elems(6), ones.data(), x.data(), y.data());
  EXPECT_EQ(y[0], 1.0f);
  EXPECT_EQ(y[1], 1.0f);
  EXPECT_EQ(y[2], 0.0f);
  EXPECT_EQ(y[3], 0.5f);
}

TEST(SoftmaxTest, FloatExponentialsAreAccurate) {
  // log_softmax over (0, x) is -log(1 + e^x): the exponential over its whole range.
  for (double v = -110; v < 60; v += 0.37) {
    const float pair[2] = {0.0f, static_cast<float>(v)};
    float y[2];
    softmax(SoftmaxKind::plain, DType::f32, 1, 2, pair, y);
    const double expected = 1 / (1 + std::exp(-static_cast<double>(pair[1])));
    ASSERT_NEAR(static_cast<double>(y[1]), expected, 4e-7 * expected + 1e-38) << v;
  }
}

TEST(AliasTest, OutputsMayBeInputs) {
  constexpr std::int64_t kRows = 40, kColumns = 37;
  const auto x = normal(kRows * kColumns, 1), dy = normal(kRows * kColumns, 2);
  const Elems count(kRows * kColumns);
  std::vector<float> apart(x.size()), in_place = x;
  softmax(SoftmaxKind::plain, DType::f32, kRows, kColumns, x.data(), apart.data());
  softmax(SoftmaxKind::plain, DType::f32, kRows, kColumns, in_place.data(), in_place.data());
  EXPECT_EQ(apart, in_place);
  for (const GeluKind kind : {GeluKind::exact, GeluKind::tanh}) {
    in_place = dy;
    gelu_backward(kind, DType::f32, count, dy.data(), x.data(), apart.data());
    gelu_backward(kind, DType::f32, count, in_place.data(), x.data(), in_place.data());
    EXPECT_EQ(apart, in_place);
  }
  std::vector<float> y(x.size()), mean(kRows), rstd(kRows), dw(kColumns), dw2(kColumns);
  layer_norm({DType::f32, kRows, kColumns, 1e-5, x.data(), nullptr, nullptr, y.data(), mean.data(),
              rstd.data()});
  LayerNormBackward p{DType::f32,  kRows,       kColumns,     dy.data(), x.data(), nullptr,
                      mean.data(), rstd.data(), apart.data(), dw.data(), nullptr};
  layer_norm_backward(p);
  in_place = dy;
  p.dy = p.dx = in_place.data();
  p.dweight = dw2.data();
  layer_norm_backward(p);
  EXPECT_EQ(apart, in_place);
  EXPECT_EQ(dw, dw2);
}

TEST(LayerNormTest, FarFromZero) {
  // The variance is taken around the mean: 1 part in 10^4 of the mean is still seen.
  constexpr std::int64_t kColumns = 1000;
  auto x = normal(kColumns, 3);
  for (float& value : x) value += 10000.0f;
  std::vector<float> y(x.size());
  float mean = 0, rstd = 0;
  layer_norm({DType::f32, 1, kColumns, 0.0, x.data(), nullptr, nullptr, y.data(), &mean, &rstd});
  double sum = 0, squares = 0;
  for (const float value : y) {
    sum += static_cast<double>(value);
    squares += static_cast<double>(value) * static_cast<double>(value);
  }
  EXPECT_NEAR(sum / kColumns, 0.0, 2e-3);
  EXPECT_NEAR(squares / kColumns, 1.0, 1e-3);
}

TEST(BiasActivationTest, SumsOverBlocksOfRows) {
  constexpr std::int64_t kColumns = 19;
  for (const std::int64_t rows : {0, 1, 3, 31, 33, 64, 1000, 5000}) {
    const auto dy = normal(static_cast<std::size_t>(rows * kColumns), 4);
    std::vector<float> dbias(kColumns, 77.0f);
    BiasActivationBackward p;
    p.rows = rows, p.columns = kColumns;
    p.dy = dy.data(), p.dbias = dbias.data();
    bias_activation_backward(p);
    for (std::int64_t j = 0; j < kColumns; ++j) {
      double expected = 0;
      for (std::int64_t r = 0; r < rows; ++r) {
        expected += static_cast<double>(dy[static_cast<std::size_t>(r * kColumns + j)]);
      }
      ASSERT_NEAR(static_cast<double>(dbias[static_cast<std::size_t>(j)]), expected,
                  1e-5 * (1 + std::abs(expected)))
          << rows << " rows";
    }
  }
}

TEST(CrossEntropyTest, AWrongTargetLeavesEverythingAlone) {
  const std::vector<float> logits(6, 0.0f);
  const std::vector<std::int64_t> targets = {0, 3};
  std::vector<float> log_sum_exp = {5.0f, 6.0f};
  const CrossEntropy p{DType::f32,    DType::i64,     2,  3,
                       logits.data(), targets.data(), -1, log_sum_exp.data()};
  EXPECT_THROW(cross_entropy(p), InvalidArgument);
  EXPECT_EQ(log_sum_exp, (std::vector<float>{5.0f, 6.0f}));
}

}  // namespace
}  // namespace weft::kernels
