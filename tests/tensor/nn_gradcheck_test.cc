// Every operator against finite differences in f64, at odd sizes, with strided and missing
// operands.
#include "tensor/ops/nn.h"
#include "tests/tensor/gradcheck.h"

namespace weft::tests {
namespace {

using Inputs = std::vector<Tensor>;

Tensor indices(std::vector<std::int64_t> values, Shape shape) {
  return Tensor::from(values, std::move(shape));
}

// Spread out by at least 0.01, so that no nudge changes which element of a window is largest.
Tensor distinct_tensor(Shape shape) {
  const std::int64_t n = tensor::numel(shape);
  std::vector<double> values;
  for (std::int64_t i = 0; i < n; ++i) {
    values.push_back(static_cast<double>(i * 7919 % n) * 0.01 - 0.5);
  }
  return Tensor::from(values, std::move(shape));
}

TEST(NnGradcheckTest, LinearInBothLayoutsWithEveryActivation) {
  for (const auto layout : {ops::WeightLayout::out_in, ops::WeightLayout::in_out}) {
    for (const auto activation :
         {ops::Activation::none, ops::Activation::gelu, ops::Activation::relu}) {
      const Shape shape = layout == ops::WeightLayout::out_in ? Shape{3, 5} : Shape{5, 3};
      const Tensor x = random_tensor({2, 3, 5}, 1), w = random_tensor(shape, 2);
      const Tensor b = random_tensor({3}, 3);
      EXPECT_TRUE(gradcheck(
          [&](const Inputs& in) { return ops::linear(in[0], in[1], in[2], layout, activation); },
          {x, w, b}));
      EXPECT_TRUE(gradcheck(
          [&](const Inputs& in) { return ops::linear(in[0], in[1], {}, layout, activation); },
          {x, w}));
    }
  }
}

TEST(NnGradcheckTest, LinearOfStridedOperandsAndOneRow) {
  EXPECT_TRUE(gradcheck([](const Inputs& in) { return ops::linear(in[0], in[1], in[2]); },
                        {random_tensor({5, 4}, 1).transpose(0, 1),
                         random_tensor({5, 3}, 2).transpose(0, 1), random_tensor({3}, 3)}));
  EXPECT_TRUE(gradcheck([](const Inputs& in) { return ops::linear(in[0], in[1]); },
                        {random_tensor({4}, 4), random_tensor({2, 4}, 5)}));
}

TEST(NnGradcheckTest, LayerNorm) {
  const auto both = [](const Inputs& in) { return ops::layer_norm(in[0], in[1], in[2]); };
  for (const std::int64_t columns : {2, 7, 33}) {
    EXPECT_TRUE(gradcheck(both, {random_tensor({3, 2, columns}, 1), random_tensor({columns}, 2),
                                 random_tensor({columns}, 3)}));
  }
  EXPECT_TRUE(gradcheck([](const Inputs& in) { return ops::layer_norm(in[0], {}, {}); },
                        {random_tensor({4, 5}, 4)}));
  EXPECT_TRUE(gradcheck([](const Inputs& in) { return ops::layer_norm(in[0], in[1], {}); },
                        {random_tensor({4, 5}, 5), random_tensor({5}, 6)}));
  EXPECT_TRUE(gradcheck([](const Inputs& in) { return ops::layer_norm(in[0], {}, in[1]); },
                        {random_tensor({5, 4}, 7).transpose(0, 1), random_tensor({5}, 8)}));
  // More rows than one block of the parameters' sums.
  EXPECT_TRUE(
      gradcheck(both, {random_tensor({70, 3}, 9), random_tensor({3}, 10), random_tensor({3}, 11)}));
}

TEST(NnGradcheckTest, Gelu) {
  for (const auto form : {ops::GeluForm::exact, ops::GeluForm::tanh}) {
    EXPECT_TRUE(gradcheck([form](const Inputs& in) { return ops::gelu(in[0], form); },
                          {ops::mul(random_tensor({3, 13}, 1), 2.0)}));
  }
}

TEST(NnGradcheckTest, SoftmaxOverEveryDimension) {
  for (std::int64_t dim = -3; dim < 3; ++dim) {
    EXPECT_TRUE(gradcheck([dim](const Inputs& in) { return ops::softmax(in[0], dim); },
                          {random_tensor({2, 3, 5}, 1)}));
    EXPECT_TRUE(gradcheck([dim](const Inputs& in) { return ops::log_softmax(in[0], dim); },
                          {random_tensor({2, 3, 5}, 2)}));
  }
}

TEST(NnGradcheckTest, CrossEntropy) {
  const auto loss = [](const Inputs& in) { return ops::cross_entropy(in[0], in[1]); };
  EXPECT_TRUE(gradcheck(loss, {random_tensor({5, 7}, 1), indices({0, 6, -1, 3, 3}, {5})}));
  EXPECT_TRUE(gradcheck(loss, {random_tensor({2, 3, 4}, 2), indices({0, 1, 2, 3, -1, 0}, {2, 3})}));
  EXPECT_TRUE(
      gradcheck(loss, {random_tensor({7, 5}, 3).transpose(0, 1), indices({0, 6, 2, 3, 3}, {5})}));
  EXPECT_TRUE(
      gradcheck([](const Inputs& in) { return ops::mul(ops::cross_entropy(in[0], in[1], 2), 3.0); },
                {random_tensor({3, 4}, 4), indices({2, 1, 3}, {3})}));
}

TEST(NnGradcheckTest, CausalAttention) {
  const auto attention = [](std::int64_t heads) {
    return [heads](const Inputs& in) { return ops::causal_attention(in[0], heads); };
  };
  EXPECT_TRUE(gradcheck(attention(1), {random_tensor({2, 1, 9}, 1)}));
  EXPECT_TRUE(gradcheck(attention(2), {random_tensor({2, 5, 18}, 2)}));
  EXPECT_TRUE(gradcheck(attention(3), {random_tensor({1, 9, 9}, 3)}));
  // A block of 64 queries and a piece of the next; strided.
  EXPECT_TRUE(gradcheck(attention(1), {random_tensor({1, 6, 66}, 4).transpose(1, 2)}));
}

TEST(NnGradcheckTest, CausalAttentionWithDropout) {
  EXPECT_TRUE(gradcheck(
      [](const Inputs& in) {
        tensor::Generator generator(11);
        generator.set_offset(5);
        return ops::causal_attention(in[0], 2, 0.4, &generator);
      },
      {random_tensor({2, 7, 18}, 1)}));
}

TEST(NnGradcheckTest, Embedding) {
  EXPECT_TRUE(gradcheck([](const Inputs& in) { return ops::embedding(in[0], in[1]); },
                        {random_tensor({5, 3}, 1), indices({4, 1, 1, 0, 1, 4}, {2, 3})}));
}

TEST(NnGradcheckTest, Dropout) {
  EXPECT_TRUE(gradcheck(
      [](const Inputs& in) {
        tensor::Generator generator(3);
        generator.set_offset(1);
        return ops::dropout(in[0], 0.3, generator);
      },
      {random_tensor({5, 7}, 1)}));
}

TEST(NnGradcheckTest, Conv2d) {
  const auto conv = [](std::int64_t stride, std::int64_t padding) {
    return [=](const Inputs& in) {
      return ops::conv2d(in[0], in[1], in.size() > 2 ? in[2] : Tensor(), stride, padding);
    };
  };
  const Tensor x = random_tensor({2, 2, 5, 4}, 1), w = random_tensor({3, 2, 3, 2}, 2);
  const Tensor b = random_tensor({3}, 3);
  EXPECT_TRUE(gradcheck(conv(1, 0), {x, w, b}));
  EXPECT_TRUE(gradcheck(conv(2, 1), {x, w, b}));
  EXPECT_TRUE(gradcheck(conv(3, 2), {x, w}));
  EXPECT_TRUE(
      gradcheck(conv(1, 4), {random_tensor({1, 1, 2, 2}, 4), random_tensor({1, 1, 3, 3}, 5)}));
  EXPECT_TRUE(
      gradcheck(conv(1, 0), {random_tensor({1, 3, 4, 4}, 6), random_tensor({2, 3, 1, 1}, 7)}));
}

TEST(NnGradcheckTest, Pool2d) {
  for (const std::int64_t stride : {0, 1, 3}) {
    for (const std::int64_t padding : {0, 1}) {
      EXPECT_TRUE(
          gradcheck([=](const Inputs& in) { return ops::max_pool2d(in[0], 3, stride, padding); },
                    {distinct_tensor({2, 2, 5, 6})}));
      EXPECT_TRUE(
          gradcheck([=](const Inputs& in) { return ops::avg_pool2d(in[0], 3, stride, padding); },
                    {random_tensor({2, 2, 5, 6}, 1)}));
    }
  }
}

}  // namespace
}  // namespace weft::tests
