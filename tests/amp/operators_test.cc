// Every operator under autocast: the type it gives, and values and gradients against the same
// operator in f64.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "tensor/amp/autocast.h"
#include "tensor/autograd/node.h"
#include "tensor/ops/basic.h"
#include "tensor/ops/nn.h"
#include "tensor/random.h"

namespace weft {
namespace {

using Inputs = std::vector<Tensor>;

enum class Kind { low, wide, own };  // what the result has: the low type, f32, or its input's

struct Case {
  std::string name;
  std::function<Tensor(const Inputs&)> run;
  std::vector<Shape> shapes;
  Kind kind;
  bool positive = false;  // inputs away from zero, on the positive side
};

Tensor counts(std::int64_t end, std::int64_t length) {
  std::vector<std::int64_t> values;
  for (std::int64_t i = 0; i < length; ++i) values.push_back(i * 5 % end);
  return Tensor::from(values, {length});
}

std::vector<Case> cases() {
  const auto gelu = ops::Activation::gelu;
  const auto in_out = ops::WeightLayout::in_out;
  return {
      {"linear",
       [](auto& in) { return ops::linear(in[0], in[1], in[2]); },
       {{7, 24}, {16, 24}, {16}},
       Kind::low},
      {"linear_gelu",
       [=](auto& in) { return ops::linear(in[0], in[1], in[2], in_out, gelu); },
       {{2, 5, 24}, {24, 16}, {16}},
       Kind::low},
      {"linear_no_bias",
       [](auto& in) { return ops::linear(in[0], in[1]); },
       {{7, 24}, {16, 24}},
       Kind::low},
      {"matmul",
       [](auto& in) { return ops::matmul(in[0], in[1]); },
       {{3, 6, 20}, {20, 8}},
       Kind::low},
      {"matmul_batched",
       [](auto& in) { return ops::matmul(in[0], in[1]); },
       {{3, 6, 20}, {3, 20, 8}},
       Kind::low},
      {"conv2d",
       [](auto& in) { return ops::conv2d(in[0], in[1], in[2], 1, 1); },
       {{2, 3, 7, 7}, {4, 3, 3, 3}, {4}},
       Kind::low},
      {"causal_attention",
       [](auto& in) { return ops::causal_attention(in[0], 2); },
       {{2, 9, 48}},
       Kind::low},
      {"exp", [](auto& in) { return ops::exp(in[0]); }, {{40}}, Kind::wide},
      {"log", [](auto& in) { return ops::log(in[0]); }, {{40}}, Kind::wide, true},
      {"pow", [](auto& in) { return ops::pow(in[0], 1.7); }, {{40}}, Kind::wide, true},
      {"softmax", [](auto& in) { return ops::softmax(in[0]); }, {{4, 10}}, Kind::wide},
      {"softmax_first", [](auto& in) { return ops::softmax(in[0], 0); }, {{4, 10}}, Kind::wide},
      {"log_softmax", [](auto& in) { return ops::log_softmax(in[0]); }, {{4, 10}}, Kind::wide},
      {"layer_norm",
       [](auto& in) { return ops::layer_norm(in[0], in[1], in[2]); },
       {{5, 16}, {16}, {16}},
       Kind::wide},
      {"cross_entropy",
       [](auto& in) { return ops::cross_entropy(in[0], counts(10, 6)); },
       {{6, 10}},
       Kind::wide},
      {"sum", [](auto& in) { return ops::sum(in[0], {1}); }, {{4, 10}}, Kind::wide},
      {"mean", [](auto& in) { return ops::mean(in[0]); }, {{4, 10}}, Kind::wide},
      {"add", [](auto& in) { return ops::add(in[0], in[1]); }, {{4, 10}, {10}}, Kind::own},
      {"sub", [](auto& in) { return ops::sub(in[0], in[1]); }, {{4, 10}, {10}}, Kind::own},
      {"mul", [](auto& in) { return ops::mul(in[0], in[1]); }, {{4, 10}, {4, 10}}, Kind::own},
      {"div", [](auto& in) { return ops::div(in[0], in[1]); }, {{4, 10}, {10}}, Kind::own, true},
      {"add_scalar", [](auto& in) { return ops::add(in[0], 2.0); }, {{9}}, Kind::own},
      {"mul_scalar", [](auto& in) { return ops::mul(in[0], 3.0); }, {{9}}, Kind::own},
      {"neg", [](auto& in) { return ops::neg(in[0]); }, {{9}}, Kind::own},
      {"sqrt", [](auto& in) { return ops::sqrt(in[0]); }, {{9}}, Kind::own, true},
      {"tanh", [](auto& in) { return ops::tanh(in[0]); }, {{9}}, Kind::own},
      {"sigmoid", [](auto& in) { return ops::sigmoid(in[0]); }, {{9}}, Kind::own},
      {"relu", [](auto& in) { return ops::relu(in[0]); }, {{9}}, Kind::own},
      {"gelu", [](auto& in) { return ops::gelu(in[0]); }, {{9}}, Kind::own},
      {"max", [](auto& in) { return ops::max(in[0], 1); }, {{4, 10}}, Kind::own},
      {"cat",
       [](auto& in) {
         return ops::cat({in[0], in[1]}, 0);
       },
       {{4, 3}, {2, 3}},
       Kind::own},
      {"stack",
       [](auto& in) {
         return ops::stack({in[0], in[1]}, 0);
       },
       {{4, 3}, {4, 3}},
       Kind::own},
      {"embedding",
       [](auto& in) { return ops::embedding(in[0], counts(6, 8)); },
       {{6, 5}},
       Kind::own},
      {"max_pool2d", [](auto& in) { return ops::max_pool2d(in[0], 2); }, {{1, 2, 6, 6}}, Kind::own},
      {"avg_pool2d", [](auto& in) { return ops::avg_pool2d(in[0], 2); }, {{1, 2, 6, 6}}, Kind::own},
      {"dropout",
       [](auto& in) {
         tensor::Generator generator(3);
         return ops::dropout(in[0], 0.5, generator);
       },
       {{30}},
       Kind::own},
  };
}

// Values that every type holds exactly, so that no difference comes from the inputs: multiples of
// 1/8 below 4 in magnitude.
Tensor coarse(const Shape& shape, std::uint64_t seed, bool positive, DType dtype) {
  tensor::Generator generator(seed);
  auto values = Tensor::rand(shape, generator, {DType::f64}).to_vector<double>();
  for (double& v : values) v = positive ? 0.5 + std::floor(v * 24) / 8 : std::floor(v * 48) / 8 - 3;
  return Tensor::from(values, shape).to(dtype);
}

double distance(const Tensor& found, const Tensor& expected) {
  const auto a = found.to_vector<double>(), b = expected.to_vector<double>();
  double difference = 0, norm = 1e-30;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(difference / norm);
}

Inputs make_inputs(const Case& c, DType dtype) {
  Inputs inputs;
  for (std::size_t i = 0; i < c.shapes.size(); ++i) {
    inputs.push_back(coarse(c.shapes[i], 10 + i, c.positive, dtype));
    inputs.back().set_requires_grad(true);
  }
  return inputs;
}

class AutocastOperatorTest : public testing::TestWithParam<DType> {
 protected:
  // Two roundings, of an operand and of the result; sums of several such.
  double tolerance() const { return GetParam() == DType::f16 ? 2e-3 : 1.2e-2; }
};

TEST_P(AutocastOperatorTest, GivesItsTypeAndAgreesWithDoublePrecision) {
  for (const auto& c : cases()) {
    SCOPED_TRACE(c.name);
    const auto exact = make_inputs(c, DType::f64);
    const auto inputs = make_inputs(c, DType::f32);
    const Tensor expected = c.run(exact);
    const auto out = [&] {
      const amp::Autocast autocast(GetParam());
      return c.run(inputs);
    }();
    EXPECT_EQ(out.dtype(), c.kind == Kind::low ? GetParam() : DType::f32);
    EXPECT_LE(distance(out, expected), tolerance());
    const auto weights = coarse(out.shape(), 99, false, DType::f64);
    expected.backward(weights);
    out.backward(weights.to(out.dtype()));
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      ASSERT_TRUE(inputs[i].grad().defined());
      EXPECT_EQ(inputs[i].grad().dtype(), DType::f32) << "input " << i;
      EXPECT_LE(distance(inputs[i].grad(), exact[i].grad()), tolerance()) << "input " << i;
    }
  }
}

TEST_P(AutocastOperatorTest, LowOperandsComeOutAsTheTableSays) {
  for (const auto& c : cases()) {
    SCOPED_TRACE(c.name);
    const auto exact = make_inputs(c, DType::f64);
    const auto inputs = make_inputs(c, GetParam());
    const Tensor expected = c.run(exact);
    const auto out = [&] {
      const amp::Autocast autocast(GetParam());
      return c.run(inputs);
    }();
    EXPECT_EQ(out.dtype(), c.kind == Kind::wide ? DType::f32 : GetParam());
    EXPECT_LE(distance(out, expected), tolerance());
    const auto weights = coarse(out.shape(), 99, false, DType::f64);
    expected.backward(weights);
    out.backward(weights.to(out.dtype()));
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      EXPECT_EQ(inputs[i].grad().dtype(), GetParam()) << "input " << i;
      EXPECT_LE(distance(inputs[i].grad(), exact[i].grad()), tolerance()) << "input " << i;
    }
  }
}

TEST_P(AutocastOperatorTest, DoublesAreLeftAlone) {
  for (const auto& c : cases()) {
    SCOPED_TRACE(c.name);
    const auto inputs = make_inputs(c, DType::f64);
    const Tensor expected = c.run(inputs);
    const amp::Autocast autocast(GetParam());
    const Tensor out = c.run(inputs);
    EXPECT_EQ(out.dtype(), DType::f64);
    EXPECT_EQ(out.to_vector<double>(), expected.to_vector<double>());
  }
}

INSTANTIATE_TEST_SUITE_P(LowTypes, AutocastOperatorTest, testing::Values(DType::bf16, DType::f16),
                         [](const auto& tested) { return std::string(name_of(tested.param)); });

// A product in the low type is the product of the rounded operands, summed in f32, rounded once.
TEST(AutocastProductTest, IsThatOfTheRoundedOperands) {
  tensor::Generator generator(5);
  const auto x = Tensor::randn({9, 300}, generator), w = Tensor::randn({8, 300}, generator);
  const auto inside = [&] {
    const amp::Autocast autocast(DType::bf16);
    return ops::linear(x, w);
  }();
  const auto by_hand = ops::linear(x.to(DType::bf16), w.to(DType::bf16));
  EXPECT_EQ(inside.to_vector<float>(), by_hand.to_vector<float>());
  const auto sums = ops::linear(x.to(DType::bf16).to(DType::f32), w.to(DType::bf16).to(DType::f32));
  EXPECT_LE(distance(inside, sums), std::ldexp(1.0, -9)) << "one rounding, not 300";
}

TEST(AutocastSumTest, LongSumsKeepWhatALowTypeWouldLose) {
  const amp::Autocast autocast(DType::bf16);
  const auto ones = Tensor::full({1000}, 1.0, {DType::bf16});
  EXPECT_EQ(ops::sum(ones).item(), 1000.0) << "bf16 has no 1000: it would give 1000 as 1000 +- 4";
  EXPECT_EQ(ops::sum(Tensor::full({1001}, 1.0, {DType::bf16})).item(), 1001.0);
}

TEST(AutocastPromotionTest, OperandsMeetInTheWidestType) {
  const amp::Autocast autocast(DType::bf16);
  const auto one = [](DType dtype) { return Tensor::full({3}, 1.0, {dtype}); };
  EXPECT_EQ(ops::add(one(DType::bf16), one(DType::f32)).dtype(), DType::f32);
  EXPECT_EQ(ops::mul(one(DType::f32), one(DType::f16)).dtype(), DType::f32);
  EXPECT_EQ(ops::sub(one(DType::f16), one(DType::bf16)).dtype(), DType::f32);
  EXPECT_EQ(ops::div(one(DType::f64), one(DType::bf16)).dtype(), DType::f64);
  EXPECT_EQ(ops::add(one(DType::bf16), one(DType::bf16)).dtype(), DType::bf16);
  EXPECT_EQ(ops::cat({one(DType::bf16), one(DType::f32), one(DType::f64)}, 0).dtype(), DType::f64);
  EXPECT_EQ(ops::add(Tensor::arange(3, {DType::i64}), Tensor::arange(3, {DType::i64})).dtype(),
            DType::i64);
  EXPECT_THROW(ops::add(Tensor::arange(3, {DType::i64}), one(DType::f32)), InvalidArgument)
      << "integers are not promoted";
  EXPECT_THROW(ops::linear(one(DType::f64).view({1, 3}), one(DType::f32).view({1, 3})),
               InvalidArgument)
      << "a product of f64 and f32 is a mistake with autocast as without";
}

TEST(AutocastPromotionTest, EachOperandGetsAGradientOfItsOwnType) {
  const amp::Autocast autocast(DType::bf16);
  auto wide = Tensor::full({3}, 2.0), low = Tensor::full({3}, 4.0, {DType::bf16});
  wide.set_requires_grad(true);
  low.set_requires_grad(true);
  ops::sum(ops::mul(wide, low)).backward();
  EXPECT_EQ(wide.grad().to_vector<float>(), std::vector<float>(3, 4.0f));
  EXPECT_EQ(low.grad().dtype(), DType::bf16);
  EXPECT_EQ(low.grad().to_vector<float>(), std::vector<float>(3, 2.0f));
}

}  // namespace
}  // namespace weft
