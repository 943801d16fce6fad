// Element-wise operators, reductions and joining: forward against plain code, backward against
// finite differences.
#include "tensor/ops/basic.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "tests/tensor/gradcheck.h"

namespace weft::tests {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

struct Unary {
  const char* name;
  Tensor (*forward)(const Tensor&);
  double (*expected)(double);
};

// Inputs are positive, so that all are defined everywhere.
const std::vector<Unary> kUnaries = {
    {"neg", ops::neg, [](double x) { return -x; }},
    {"exp", ops::exp, [](double x) { return std::exp(x); }},
    {"log", ops::log, [](double x) { return std::log(x); }},
    {"sqrt", ops::sqrt, [](double x) { return std::sqrt(x); }},
    {"tanh", ops::tanh, [](double x) { return std::tanh(x); }},
    {"sigmoid", ops::sigmoid, [](double x) { return 1.0 / (1.0 + std::exp(-x)); }},
    {"relu", ops::relu, [](double x) { return std::max(x, 0.0); }},
    {"add_scalar", [](const Tensor& x) { return x + 2.5; }, [](double x) { return x + 2.5; }},
    {"mul_scalar", [](const Tensor& x) { return -1.5 * x; }, [](double x) { return -1.5 * x; }},
    {"pow3", [](const Tensor& x) { return ops::pow(x, 3.0); }, [](double x) { return x * x * x; }},
    {"pow-1.7", [](const Tensor& x) { return ops::pow(x, -1.7); },
     [](double x) { return std::pow(x, -1.7); }},
};

double tolerance(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return 1e-14;
    case DType::f32:
      return 1e-6;
    case DType::f16:
      return 1e-3;
    default:
      return 8e-3;
  }
}

// Contiguous, turned, with gaps, expanded, a scalar and empty.
std::vector<Tensor> inputs_of_all_kinds(DType dtype) {
  const auto base = positive_tensor({4, 5, 6}, 3, dtype);
  return {base,
          base.transpose(0, 2),
          base.narrow(2, 1, 3),
          base.select(1, 2).unsqueeze(1).expand({4, 7, 6}),
          positive_tensor({}, 4, dtype),
          base.narrow(1, 0, 0)};
}

TEST(BasicOpsTest, UnaryFunctionsAreThoseOfMathematics) {
  for (const auto dtype : {DType::f64, DType::f32, DType::f16, DType::bf16}) {
    for (const auto& input : inputs_of_all_kinds(dtype)) {
      for (const auto& op : kUnaries) {
        SCOPED_TRACE(std::string(op.name) + " " + std::string(name_of(dtype)) + " " +
                     tensor::to_string(input.shape()));
        const auto out = op.forward(input);
        ASSERT_EQ(out.shape(), input.shape());
        ASSERT_EQ(out.dtype(), dtype);
        const auto values = input.to_vector<double>(), found = out.to_vector<double>();
        for (std::size_t i = 0; i < values.size(); ++i) {
          const double expected = op.expected(values[i]);
          ASSERT_NEAR(found[i], expected, tolerance(dtype) * std::max(1.0, std::abs(expected)));
        }
      }
    }
  }
}

TEST(BasicOpsTest, UnaryGradients) {
  for (const auto& op : kUnaries) {
    for (const auto& input :
         {positive_tensor({2, 3, 2}, 5), positive_tensor({}, 6),
          positive_tensor({3, 4}, 7).transpose(0, 1), positive_tensor({3, 0}, 8)}) {
      EXPECT_TRUE(gradcheck([&](const auto& in) { return op.forward(in[0]); }, {input}))
          << op.name << " " << tensor::to_string(input.shape());
    }
  }
  EXPECT_TRUE(gradcheck([](const auto& in) { return ops::relu(in[0]); }, {random_tensor({20}, 1)}));
  EXPECT_TRUE(
      gradcheck([](const auto& in) { return ops::tanh(in[0] * 3.0); }, {random_tensor({20}, 1)}));
}

struct Binary {
  const char* name;
  Tensor (*forward)(const Tensor&, const Tensor&);
  double (*expected)(double, double);
};
const std::vector<Binary> kBinaries = {
    {"add", ops::add, [](double a, double b) { return a + b; }},
    {"sub", ops::sub, [](double a, double b) { return a - b; }},
    {"mul", ops::mul, [](double a, double b) { return a * b; }},
    {"div", ops::div, [](double a, double b) { return a / b; }},
};
const std::vector<std::pair<Shape, Shape>> kBroadcasts = {
    {{2, 3}, {2, 3}},    {{2, 3}, {3}},          {{3}, {2, 3}}, {{2, 1}, {1, 3}}, {{}, {2, 2}},
    {{4, 1, 2}, {3, 1}}, {{2, 3, 4}, {2, 1, 4}}, {{1}, {}},     {{0, 3}, {1, 3}}, {{0}, {}}};

TEST(BasicOpsTest, BinaryOperatorsBroadcast) {
  for (const auto& op : kBinaries) {
    for (const auto& [a_shape, b_shape] : kBroadcasts) {
      SCOPED_TRACE(std::string(op.name) + tensor::to_string(a_shape) + tensor::to_string(b_shape));
      const auto a = random_tensor(a_shape, 1), b = positive_tensor(b_shape, 2);
      const auto out = op.forward(a, b);
      ASSERT_EQ(out.shape(), tensor::broadcast_shapes(a_shape, b_shape));
      const auto left = a.expand(out.shape()).to_vector<double>();
      const auto right = b.expand(out.shape()).to_vector<double>();
      const auto found = out.to_vector<double>();
      for (std::size_t i = 0; i < found.size(); ++i) {
        ASSERT_NEAR(found[i], op.expected(left[i], right[i]), 1e-14);
      }
      EXPECT_TRUE(gradcheck([&](const auto& in) { return op.forward(in[0], in[1]); }, {a, b}));
    }
    const auto square = random_tensor({3, 3}, 3);
    EXPECT_TRUE(gradcheck([&](const auto& in) { return op.forward(in[0], in[1]); },
                          {square.transpose(0, 1), positive_tensor({5, 3}, 4).narrow(0, 1, 3)}))
        << op.name << " of views";
    EXPECT_TRUE(gradcheck([&](const auto& in) { return op.forward(in[0], in[0]); },
                          {positive_tensor({3}, 4)}))
        << op.name << " with itself";
  }
}

TEST(BasicOpsTest, OnlyNeededGradientsAreComputed) {
  for (const auto& op : kBinaries) {
    auto a = positive_tensor({2, 3}, 1), b = positive_tensor({3}, 2);
    const auto left = [&](const auto& in) { return op.forward(in[0], b); };
    const auto right = [&](const auto& in) { return op.forward(a, in[0]); };
    EXPECT_TRUE(gradcheck(left, {a})) << op.name;
    EXPECT_TRUE(gradcheck(right, {b})) << op.name;
  }
}

TEST(BasicOpsTest, IntegersAddSubtractMultiplyAndSum) {
  const auto a = Tensor::from(std::vector<std::int64_t>{std::int64_t{1} << 53, 5, -7}, {3});
  const auto b = Tensor::from(std::vector<std::int64_t>{1, 2, 3}, {3});
  EXPECT_THAT((a + b).to_vector<std::int64_t>(), ElementsAre((std::int64_t{1} << 53) + 1, 7, -4));
  EXPECT_THAT((a - b).to_vector<std::int64_t>(), ElementsAre((std::int64_t{1} << 53) - 1, 3, -10));
  EXPECT_THAT((b * b).to_vector<std::int64_t>(), ElementsAre(1, 4, 9));
  EXPECT_THAT((b * 3.0 + 1.0).to_vector<std::int64_t>(), ElementsAre(4, 7, 10));
  EXPECT_EQ(ops::sum(b).item(), 6.0);
  EXPECT_EQ(ops::sum(b).dtype(), DType::i64);
  EXPECT_THROW(b * 0.5, InvalidArgument);
  EXPECT_THROW(ops::div(a, b), InvalidArgument);
  EXPECT_THROW(ops::exp(a), InvalidArgument);
  EXPECT_THROW(ops::mean(a), InvalidArgument);
}

TEST(BasicOpsTest, MismatchesNameTheOperationAndShapes) {
  const auto a = Tensor::zeros({2, 3});
  EXPECT_THAT([&] { ops::mul(a, Tensor::zeros({4})); },
              ThrowsMessage<InvalidArgument>(
                  AllOf(HasSubstr("mul"), HasSubstr("(2, 3)"), HasSubstr("(4,)"))));
  EXPECT_THAT(
      [&] {
        ops::add(a, Tensor::zeros({2, 3}, {DType::f64, {}}));
      },
      ThrowsMessage<InvalidArgument>(AllOf(HasSubstr("add"), HasSubstr("f32"), HasSubstr("f64"))));
  EXPECT_THROW(ops::add(a, Tensor()), InvalidArgument);
  EXPECT_THROW(ops::neg(Tensor()), InvalidArgument);
  EXPECT_THROW(ops::sum(Tensor()), InvalidArgument);
}

// The sum over `dims` of a (2, 3, 4) tensor, element by element.
double plain_sum(const Tensor& a, const std::vector<bool>& goes,
                 const std::vector<std::int64_t>& at) {
  double total = 0.0;
  for (std::int64_t i = 0; i < a.size(0); ++i) {
    for (std::int64_t j = 0; j < a.size(1); ++j) {
      for (std::int64_t k = 0; k < a.size(2); ++k) {
        if ((goes[0] || i == at[0]) && (goes[1] || j == at[1]) && (goes[2] || k == at[2])) {
          total += a.data<double>()[i * a.strides()[0] + j * a.strides()[1] + k * a.strides()[2]];
        }
      }
    }
  }
  return total;
}

TEST(BasicOpsTest, SumsAndMeansOverAnyDimensions) {
  for (const auto& a : {random_tensor({2, 3, 4}, 1), random_tensor({4, 3, 2}, 2).transpose(0, 2)}) {
    for (int mask = 1; mask < 8; ++mask) {
      std::vector<bool> goes;
      std::vector<std::int64_t> dims;
      double count = 1.0;
      for (std::int64_t d = 0; d < 3; ++d) {
        goes.push_back((mask >> d & 1) != 0);
        if (goes.back()) dims.push_back(d == 2 ? -1 : d);
        if (goes.back()) count *= static_cast<double>(a.size(d));
      }
      const auto kept = ops::sum(a, dims, true);
      ASSERT_EQ(kept.dim(), 3);
      const auto mean = ops::mean(a, dims, true);
      for (std::int64_t i = 0; i < kept.numel(); ++i) {
        std::vector<std::int64_t> at = {i / (kept.size(1) * kept.size(2)),
                                        i / kept.size(2) % kept.size(1), i % kept.size(2)};
        const auto expected = plain_sum(a, goes, at);
        ASSERT_NEAR(kept.data<double>()[i], expected, 1e-13) << mask << " element " << i;
        ASSERT_NEAR(mean.data<double>()[i], expected / count, 1e-13);
      }
      EXPECT_EQ(ops::sum(a, dims).to_vector<double>(), kept.to_vector<double>());
      EXPECT_EQ(ops::sum(a, dims).dim(), 3 - static_cast<std::int64_t>(dims.size()));
      for (const bool keep : {false, true}) {
        EXPECT_TRUE(gradcheck([&](const auto& in) { return ops::sum(in[0], dims, keep); }, {a}));
        EXPECT_TRUE(gradcheck([&](const auto& in) { return ops::mean(in[0], dims, keep); }, {a}));
      }
    }
    EXPECT_NEAR(ops::sum(a).item(), plain_sum(a, {true, true, true}, {0, 0, 0}), 1e-13);
  }
}

TEST(BasicOpsTest, ReductionsOfNothing) {
  const auto empty = Tensor::zeros({0, 3});
  EXPECT_THAT(ops::sum(empty, {0}).to_vector<float>(), ElementsAre(0, 0, 0));
  EXPECT_EQ(ops::sum(empty).item(), 0.0);
  EXPECT_TRUE(std::isnan(ops::mean(empty).item()));
  EXPECT_EQ(ops::sum(empty, {1}).shape(), (Shape{0}));
  EXPECT_EQ(ops::sum(Tensor::scalar(4)).item(), 4.0);
  EXPECT_THROW(ops::max(empty, 0), InvalidArgument);
  EXPECT_EQ(ops::max(empty, 1).shape(), (Shape{0}));
  EXPECT_THROW(ops::sum(empty, {0, -2}), InvalidArgument);
  EXPECT_THROW(ops::sum(empty, {2}), InvalidArgument);
}

TEST(BasicOpsTest, HalfSumsAreRoundedOnce) {
  const auto ones = Tensor::full({4096, 2}, 1.0, {DType::bf16, {}});
  EXPECT_THAT(ops::sum(ones, {0}).to_vector<float>(), Each(4096));
  EXPECT_EQ(ops::mean(ones).item(), 1.0);
}

TEST(BasicOpsTest, MaxTakesTheFirstOfEquals) {
  const auto a = Tensor::from(std::vector<double>{1, 7, 7, -3, -9, -3}, {2, 3});
  EXPECT_THAT(ops::max(a, 1).to_vector<double>(), ElementsAre(7, -3));
  EXPECT_EQ(ops::max(a, 1, true).shape(), (Shape{2, 1}));
  EXPECT_THAT(ops::max(a, 0).to_vector<double>(), ElementsAre(1, 7, 7));
  EXPECT_THAT(ops::argmax(a, 1).to_vector<int>(), ElementsAre(1, 0));
  EXPECT_THAT(ops::argmax(a.transpose(0, 1), 0).to_vector<int>(), ElementsAre(1, 0));
  EXPECT_EQ(ops::argmax(a, 0).dtype(), DType::i64);
  auto leaf = a.clone();
  leaf.set_requires_grad(true);
  EXPECT_FALSE(ops::argmax(leaf, 0).requires_grad());
  ops::sum(ops::max(leaf, 1)).backward();
  EXPECT_THAT(leaf.grad().to_vector<double>(), ElementsAre(0, 1, 0, 1, 0, 0));
  const auto nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(ops::argmax(Tensor::from(std::vector<double>{1, nan, 3}, {3}), 0).item(), 1);
}

TEST(BasicOpsTest, MaxGradients) {
  for (const std::int64_t d : {0, 1, -1}) {
    for (const bool keep : {false, true}) {
      EXPECT_TRUE(gradcheck([&](const auto& in) { return ops::max(in[0], d, keep); },
                            {random_tensor({3, 4, 2}, 1)}));
      EXPECT_TRUE(gradcheck([&](const auto& in) { return ops::max(in[0], d, keep); },
                            {random_tensor({2, 4, 3}, 1).transpose(0, 2)}));
    }
  }
}

TEST(BasicOpsTest, JoiningKeepsOrder) {
  const auto a = Tensor::arange(4).view({2, 2}), b = a * 10.0;
  EXPECT_THAT(ops::cat({a, b}, 0).to_vector<float>(), ElementsAre(0, 1, 2, 3, 0, 10, 20, 30));
  EXPECT_THAT(ops::cat({a, b.narrow(1, 1, 1)}, -1).to_vector<float>(),
              ElementsAre(0, 1, 10, 2, 3, 30));
  EXPECT_EQ(ops::cat({a, a.narrow(0, 0, 0), b}, 0).shape(), (Shape{4, 2}));
  EXPECT_THAT(ops::stack({a, b}, 0).to_vector<float>(), ElementsAre(0, 1, 2, 3, 0, 10, 20, 30));
  EXPECT_THAT(ops::stack({a, b}, 2).to_vector<float>(), ElementsAre(0, 0, 1, 10, 2, 20, 3, 30));
  EXPECT_THAT(
      [&] {
        ops::cat({a, Tensor::zeros({3, 3})}, 0);
      },
      ThrowsMessage<InvalidArgument>(AllOf(HasSubstr("(2, 2)"), HasSubstr("(3, 3)"))));
  EXPECT_THROW(ops::cat({a, Tensor::zeros({2})}, 0), InvalidArgument);
  EXPECT_THROW(ops::cat({a, a.to(DType::f64)}, 0), InvalidArgument);
  EXPECT_THROW(ops::cat({}, 0), InvalidArgument);
  EXPECT_THROW(ops::stack({a, Tensor::zeros({2})}, 0), InvalidArgument);
  EXPECT_THROW(ops::stack({a}, 3), InvalidArgument);
}

TEST(BasicOpsTest, JoiningGradients) {
  const std::vector<Tensor> parts = {random_tensor({2, 3}, 1), random_tensor({2, 1}, 2),
                                     random_tensor({2, 2}, 3)};
  EXPECT_TRUE(gradcheck([](const auto& in) { return ops::cat(in, 1); }, parts));
  EXPECT_TRUE(gradcheck(
      [](const auto& in) {
        return ops::cat({in[0], in[0] * 2.0}, 0);
      },
      {random_tensor({2, 2}, 3)}));
  EXPECT_TRUE(gradcheck([](const auto& in) { return ops::stack(in, 1); },
                        {random_tensor({2, 3}, 1), random_tensor({2, 3}, 2)}));
}

}  // namespace
}  // namespace weft::tests
