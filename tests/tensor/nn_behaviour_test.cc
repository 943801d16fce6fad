// What the operators promise beyond their arithmetic: dropout's masks, errors, NaN, empty and
// frozen operands.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tensor/ops/nn.h"
#include "tests/tensor/gradcheck.h"

namespace weft::tests {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Matcher;

template <class E = InvalidArgument, class Function>
void expect_error(const Function& function, const Matcher<std::string>& message) {
  try {
    function();
    ADD_FAILURE() << "nothing was thrown";
  } catch (const E& error) {
    EXPECT_THAT(std::string(error.what()), message);
  }
}

Tensor tokens(std::vector<std::int64_t> values) {
  const auto n = static_cast<std::int64_t>(values.size());
  return Tensor::from(values, {n});
}

TEST(NnDropoutTest, KeepsTheRightShareAndTheMean) {
  constexpr std::int64_t kCount = 200'000;
  for (const double p : {0.1, 0.5, 0.9}) {
    tensor::Generator generator(123);
    const auto y = ops::dropout(Tensor::full({kCount}, 2.0), p, generator).to_vector<float>();
    double kept = 0;
    for (const float value : y) {
      if (value == 0.0f) continue;
      ++kept;
      ASSERT_FLOAT_EQ(value, static_cast<float>(2.0 / (1.0 - p)));
    }
    const double sigma = std::sqrt(p * (1 - p) / kCount);
    EXPECT_NEAR(kept / kCount, 1 - p, 4 * sigma) << "p = " << p;
  }
}

TEST(NnDropoutTest, BackwardDrawsTheSameMask) {
  for (const DType type : {DType::f64, DType::f32, DType::f16, DType::bf16}) {
    tensor::Generator generator(9, 2);
    generator.set_offset(3);  // not at the start of a block
    Tensor x = Tensor::full({37, 29}, 1.0, {type, {}}).set_requires_grad(true);
    const Tensor y = ops::dropout(x, 0.4, generator);
    EXPECT_EQ(generator.offset(), 3u + 37 * 29);
    y.backward(Tensor::full({37, 29}, 1.0, {type, {}}));
    EXPECT_EQ(x.grad().to(DType::f64).to_vector<double>(), y.to(DType::f64).to_vector<double>());
  }
}

TEST(NnDropoutTest, MasksMoveOnWithTheStreamAndRepeatWithTheSeed) {
  const Tensor x = Tensor::full({1000}, 1.0);
  const auto draw = [&](tensor::Generator& generator) {
    return ops::dropout(x, 0.5, generator).to_vector<float>();
  };
  tensor::Generator a(1), b(1), c(2), d(1, 1);
  const auto first = draw(a), second = draw(a);
  EXPECT_NE(first, second);
  EXPECT_EQ(first, draw(b));
  EXPECT_NE(first, draw(c));
  EXPECT_NE(first, draw(d));
}

TEST(NnDropoutTest, NothingAndEverything) {
  tensor::Generator generator(1);
  const Tensor x = Tensor::full({5}, 3.0);
  EXPECT_TRUE(ops::dropout(x, 0.0, generator).same_as(x));
  EXPECT_EQ(generator.offset(), 0u);
  EXPECT_EQ(ops::dropout(x, 1.0, generator).to_vector<float>(), std::vector<float>(5, 0.0f));
  const Tensor qkv = random_tensor({1, 3, 6}, 1, DType::f32);
  EXPECT_EQ(ops::causal_attention(qkv, 1, 1.0, &generator).to_vector<float>(),
            std::vector<float>(6, 0.0f));
}

TEST(NnErrorsTest, ShapesAreNamed) {
  const auto t = [](Shape shape) { return Tensor::zeros(std::move(shape)); };
  expect_error(
      [&] {
        ops::linear(t({2, 3}), t({4, 5}));
      },
      AllOf(HasSubstr("linear"), HasSubstr("(2, 3)"), HasSubstr("(4, 5)")));
  expect_error([&] { ops::linear(t({2, 3}), t({3, 5})); }, HasSubstr("(out, in)"));
  expect_error(
      [&] {
        ops::linear(t({2, 3}), t({4, 3}), t({3}));
      },
      AllOf(HasSubstr("bias"), HasSubstr("(4,)")));
  expect_error([&] { ops::linear(t({}), t({4, 3})); }, HasSubstr("linear"));
  expect_error([&] { ops::layer_norm(t({2, 3}), t({2}), {}); }, HasSubstr("weight"));
  expect_error([&] { ops::layer_norm(t({2, 0}), {}, {}); }, HasSubstr("(2, 0)"));
  expect_error([&] { ops::layer_norm(t({2, 3}), {}, {}, -1.0); }, HasSubstr("epsilon"));
  expect_error([&] { ops::causal_attention(t({2, 3, 10}), 2); }, HasSubstr("2 heads"));
  expect_error([&] { ops::causal_attention(t({2, 12}), 2); }, HasSubstr("(2, 12)"));
  expect_error([&] { ops::causal_attention(t({1, 2, 12}), 0); }, HasSubstr("0 heads"));
  expect_error([&] { ops::softmax(t({2, 3}), 2); }, HasSubstr("dimension 2"));
  expect_error([&] { ops::log_softmax(t({}), 0); }, HasSubstr("log_softmax"));
  expect_error(
      [&] {
        ops::cross_entropy(t({2, 3}), tokens({0, 1, 2}));
      },
      AllOf(HasSubstr("(2, 3)"), HasSubstr("(3,)")));
  expect_error([&] { ops::embedding(t({4}), tokens({0})); }, HasSubstr("(4,)"));
  expect_error([&] { ops::conv2d(t({1, 2, 3}), t({1, 2, 3, 3})); }, HasSubstr("(1, 2, 3)"));
  expect_error([&] { ops::conv2d(t({1, 2, 3, 3}), t({1, 3, 3, 3})); }, HasSubstr("(out, 2,"));
  expect_error([&] { ops::conv2d(t({1, 1, 3, 3}), t({1, 1, 4, 4})); }, HasSubstr("does not fit"));
  expect_error(
      [&] {
        ops::conv2d(t({1, 1, 3, 3}), t({1, 1, 2, 2}), {}, 0);
      },
      HasSubstr("stride 0"));
  expect_error([&] { ops::max_pool2d(t({1, 1, 3, 3}), 0); }, HasSubstr("max_pool2d"));
  expect_error([&] { ops::avg_pool2d(t({1, 1, 3, 3}), 4); }, HasSubstr("does not fit"));
  expect_error([&] { ops::max_pool2d(t({1, 1, 9, 9}), 3, 1, 2); }, HasSubstr("half"));
}

TEST(NnErrorsTest, ValuesAreNamed) {
  const Tensor logits = Tensor::zeros({3, 4});
  expect_error(
      [&] {
        ops::cross_entropy(logits, tokens({0, 4, 1}));
      },
      AllOf(HasSubstr("target 4"), HasSubstr("row 1"), HasSubstr("[0, 4)")));
  expect_error([&] { ops::cross_entropy(logits, tokens({0, -100, 1})); }, HasSubstr("-100"));
  EXPECT_NO_THROW(ops::cross_entropy(logits, tokens({0, -100, 1}), -100));
  const Tensor table = Tensor::zeros({5, 2});
  expect_error(
      [&] {
        ops::embedding(table, tokens({1, 5}));
      },
      AllOf(HasSubstr("index 5"), HasSubstr("position 1"), HasSubstr("[0, 5)")));
  expect_error([&] { ops::embedding(table, tokens({-1})); }, HasSubstr("index -1"));
  tensor::Generator generator;
  expect_error([&] { ops::dropout(table, 1.5, generator); }, HasSubstr("1.5"));
  expect_error([&] { ops::dropout(table, std::nan(""), generator); }, HasSubstr("nan"));
  expect_error(
      [&] {
        ops::causal_attention(Tensor::zeros({1, 1, 3}), 1, -0.1);
      },
      HasSubstr("-0.1"));
}

TEST(NnErrorsTest, TypesAreNamed) {
  const Tensor x = Tensor::zeros({2, 3}), wide = Tensor::zeros({2, 3}, {DType::f64, {}});
  expect_error([&] { ops::linear(x, wide); }, AllOf(HasSubstr("f32"), HasSubstr("f64")));
  expect_error([&] { ops::gelu(x.to(DType::i64)); }, HasSubstr("i64"));
  expect_error([&] { ops::embedding(x, x); }, HasSubstr("f32"));
  expect_error([&] { ops::cross_entropy(x, Tensor::zeros({2})); }, HasSubstr("f32"));
  expect_error([&] { ops::layer_norm(Tensor(), {}, {}); }, HasSubstr("undefined"));
}

TEST(NnBehaviourTest, NanIsNotHidden) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const DType type : {DType::f64, DType::f32, DType::bf16}) {
    std::vector<double> values(64, 0.5);
    values[37] = nan;
    const Tensor x = Tensor::from(values, {4, 16}).to(type);
    const auto row_is_nan = [](const Tensor& y) {
      const auto all = y.to(DType::f64).to_vector<double>();
      return std::isnan(all[32]) && std::isnan(all[47]) && !std::isnan(all[31]) &&
             !std::isnan(all[48]);
    };
    EXPECT_TRUE(row_is_nan(ops::softmax(x))) << name_of(type);
    EXPECT_TRUE(row_is_nan(ops::log_softmax(x))) << name_of(type);
    EXPECT_TRUE(row_is_nan(ops::layer_norm(x, {}, {}))) << name_of(type);
    EXPECT_TRUE(std::isnan(ops::cross_entropy(x, tokens({0, 1, 2, 3})).item())) << name_of(type);
    for (const auto form : {ops::GeluForm::exact, ops::GeluForm::tanh}) {
      EXPECT_TRUE(std::isnan(ops::gelu(x, form).to(DType::f64).to_vector<double>()[37]));
    }
    const Tensor qkv = Tensor::from(values, {1, 4, 16}).narrow(2, 0, 12).to(type);
    const auto out = ops::causal_attention(qkv, 1).to(DType::f64).to_vector<double>();
    EXPECT_FALSE(std::isnan(out[7])) << name_of(type);  // token 1 cannot see token 2
    EXPECT_TRUE(std::isnan(out[8])) << name_of(type);
    const Tensor plane = x.reshape({1, 1, 8, 8});
    EXPECT_TRUE(std::isnan(ops::max_pool2d(plane, 8).item())) << name_of(type);
  }
}

TEST(NnBehaviourTest, HugeLogitsStayFinite) {
  for (const DType type : {DType::f64, DType::f32}) {
    const Tensor x = Tensor::from(std::vector<double>{1e4, -1e4, 0, 9999}, {1, 4}).to(type);
    EXPECT_NEAR(ops::cross_entropy(x, tokens({0})).item(), std::log1p(std::exp(-1.0)), 1e-3);
    EXPECT_NEAR(ops::cross_entropy(x, tokens({1})).item(), 20000.3, 0.1);
    const auto y = ops::softmax(x).to(DType::f64).to_vector<double>();
    EXPECT_NEAR(y[0], 1 / (1 + std::exp(-1.0)), 1e-6);
    EXPECT_EQ(y[1], 0.0);
  }
}

TEST(NnBehaviourTest, AllTargetsIgnoredIsNoLoss) {
  Tensor x = random_tensor({2, 3}, 1).set_requires_grad(true);
  const Tensor loss = ops::cross_entropy(x, tokens({-1, -1}));
  EXPECT_EQ(loss.item(), 0.0);
  loss.backward();
  EXPECT_EQ(x.grad().to_vector<double>(), std::vector<double>(6, 0.0));
}

TEST(NnBehaviourTest, EmptyBatches) {
  Tensor w = Tensor::full({3, 2}, 1.0).set_requires_grad(true);
  Tensor b = Tensor::full({3}, 1.0).set_requires_grad(true);
  const Tensor y = ops::linear(Tensor::zeros({0, 2}), w, b);
  EXPECT_EQ(y.shape(), (Shape{0, 3}));
  y.backward(Tensor::zeros({0, 3}));
  EXPECT_EQ(w.grad().to_vector<float>(), std::vector<float>(6, 0.0f));
  EXPECT_EQ(b.grad().to_vector<float>(), std::vector<float>(3, 0.0f));
  EXPECT_EQ(ops::layer_norm(Tensor::zeros({0, 4}), {}, {}).numel(), 0);
  EXPECT_EQ(ops::causal_attention(Tensor::zeros({0, 5, 6}), 1).numel(), 0);
  EXPECT_EQ(ops::causal_attention(Tensor::zeros({2, 0, 6}), 1).numel(), 0);
  EXPECT_EQ(ops::embedding(w, Tensor::zeros({0}, {DType::i64, {}})).shape(), (Shape{0, 2}));
  EXPECT_EQ(ops::softmax(Tensor::zeros({2, 0})).numel(), 0);
  EXPECT_EQ(ops::conv2d(Tensor::zeros({0, 1, 3, 3}), Tensor::zeros({2, 1, 2, 2})).shape(),
            (Shape{0, 2, 2, 2}));
  EXPECT_EQ(ops::cross_entropy(Tensor::zeros({0, 3}), tokens({})).item(), 0.0);
}

TEST(NnBehaviourTest, FrozenOperandsGetNoGradient) {
  Tensor x = random_tensor({4, 5}, 1);
  Tensor w = random_tensor({5}, 2).set_requires_grad(true), b = random_tensor({5}, 3);
  ops::layer_norm(x, w, b).backward(random_tensor({4, 5}, 4));
  EXPECT_TRUE(w.grad().defined());
  EXPECT_FALSE(x.grad().defined());
  EXPECT_FALSE(b.grad().defined());
  Tensor bias = random_tensor({3}, 5).set_requires_grad(true);
  ops::linear(x, random_tensor({3, 5}, 6), bias)
      .backward(Tensor::full({4, 3}, 1.0, {DType::f64, {}}));
  EXPECT_EQ(bias.grad().to_vector<double>(), std::vector<double>(3, 4.0));
}

TEST(NnBehaviourTest, GradientsLandInTheirBuffers) {
  Tensor w = random_tensor({3, 5}, 1).set_requires_grad(true);
  const Tensor buffer = Tensor::full({3, 5}, 7.0, {DType::f64, {}});
  w.set_grad_buffer(buffer);
  ops::linear(random_tensor({4, 5}, 2), w).backward(random_tensor({4, 3}, 3));
  EXPECT_EQ(w.grad().data(), buffer.data());
  Tensor other = random_tensor({3, 5}, 1).set_requires_grad(true);
  ops::linear(random_tensor({4, 5}, 2), other).backward(random_tensor({4, 3}, 3));
  EXPECT_EQ(buffer.to_vector<double>(), other.grad().to_vector<double>());
}

}  // namespace
}  // namespace weft::tests
