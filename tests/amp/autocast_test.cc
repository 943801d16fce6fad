// Autocast's scopes, and what it keeps of weights.
#include "tensor/amp/autocast.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "tensor/autograd/node.h"
#include "tensor/nn/layers.h"
#include "tensor/ops/basic.h"
#include "tensor/ops/nn.h"
#include "tensor/optim/sgd.h"

namespace weft {
namespace {

Tensor leaf(Shape shape, double value) {
  auto tensor = Tensor::full(std::move(shape), value);
  tensor.set_requires_grad(true);
  return tensor;
}

// What a product's result is here and now.
DType product_type() {
  const auto a = Tensor::full({2, 2}, 1.0);
  return ops::matmul(a, a).dtype();
}

TEST(AutocastTest, HoldsForItsScopeAndNests) {
  EXPECT_FALSE(amp::autocast_enabled());
  EXPECT_EQ(product_type(), DType::f32);
  {
    const amp::Autocast outer(DType::bf16);
    EXPECT_EQ(product_type(), DType::bf16);
    {
      const amp::Autocast inner(DType::f16);
      EXPECT_EQ(product_type(), DType::f16);
      const amp::Autocast off(DType::bf16, false);
      EXPECT_EQ(product_type(), DType::f32);
      const amp::Autocast on_again(DType::bf16);
      EXPECT_EQ(product_type(), DType::bf16);
    }
    EXPECT_EQ(product_type(), DType::bf16);
    EXPECT_EQ(amp::autocast_type(), DType::bf16);
  }
  EXPECT_FALSE(amp::autocast_enabled());
}

TEST(AutocastTest, EndsWithAnException) {
  try {
    const amp::Autocast autocast(DType::bf16);
    ops::matmul(Tensor::zeros({2, 3}), Tensor::zeros({2, 3}));
    FAIL() << "the shapes do not fit";
  } catch (const InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find("matmul"), std::string::npos);
  }
  EXPECT_FALSE(amp::autocast_enabled());
  EXPECT_EQ(amp::cast_cache().entries, 0u);
}

TEST(AutocastTest, IsItsThreadsOwn) {
  const amp::Autocast autocast(DType::bf16);
  DType elsewhere = DType::u8;
  std::thread([&] { elsewhere = product_type(); }).join();
  EXPECT_EQ(elsewhere, DType::f32);
  EXPECT_EQ(product_type(), DType::bf16);
}

TEST(AutocastTest, RefusesTypesThatAreNotLow) {
  EXPECT_THROW(amp::Autocast{DType::f32}, InvalidArgument);
  EXPECT_THROW(amp::Autocast{DType::i64}, InvalidArgument);
  EXPECT_FALSE(amp::autocast_enabled());
}

TEST(AutocastTest, BackwardDoesNotSeeIt) {
  const auto gradient = [](bool inside) {
    nn::Linear layer(6, 5);
    layer.weight().detach().fill_(0.3);
    layer.bias().detach().fill_(0.1);
    std::optional<amp::Autocast> autocast(std::in_place, DType::bf16);
    const auto y = layer.forward(Tensor::full({3, 6}, 1.7));
    const auto loss = ops::mean(ops::mul(ops::mul(y, y), 1.0 / 3));
    if (!inside) autocast.reset();
    loss.backward();
    return layer.weight().grad().to_vector<float>();
  };
  EXPECT_EQ(gradient(true), gradient(false));
}

TEST(CastCacheTest, AWeightIsCastOnceInTheOutermostScope) {
  const auto w = leaf({4, 4}, 1.0), x = Tensor::full({2, 4}, 1.0);
  {
    const amp::Autocast autocast(DType::bf16);
    ops::linear(x, w);
    EXPECT_EQ(amp::cast_cache().entries, 1u) << "x is no weight";
    {
      const amp::Autocast inner(DType::bf16);
      ops::linear(x, w);
    }
    EXPECT_EQ(amp::cast_cache().hits, 1u);
    EXPECT_EQ(amp::cast_cache().entries, 1u) << "the inner scope's end keeps it";
    ops::linear(x, leaf({3, 4}, 1.0));
    EXPECT_EQ(amp::cast_cache().entries, 2u);
  }
  EXPECT_EQ(amp::cast_cache().entries, 0u);
  EXPECT_EQ(amp::cast_cache().hits, 0u);
}

TEST(CastCacheTest, AWeightThatWasWrittenToIsCastAnew) {
  const amp::Autocast autocast(DType::bf16);
  const auto x = Tensor::full({1, 2}, 1.0);
  const auto value = [&](const Tensor& w) { return ops::linear(x, w).to_vector<float>()[0]; };
  const auto w = leaf({1, 2}, 1.0);
  EXPECT_EQ(value(w), 2.0f);
  w.detach().fill_(2.0);
  EXPECT_EQ(value(w), 4.0f) << "fill_ through another handle";
  w.detach().narrow(1, 0, 1).copy_(Tensor::full({1, 1}, 5.0));
  EXPECT_EQ(value(w), 7.0f) << "copy_ to a part of it";
  w.data<float>()[0] = 9.0f;
  w.storage()->mark_written();
  EXPECT_EQ(value(w), 11.0f) << "by hand, and said so";
  EXPECT_EQ(amp::cast_cache().hits, 0u);
  EXPECT_EQ(value(w), 11.0f);
  EXPECT_EQ(amp::cast_cache().hits, 1u);
}

TEST(CastCacheTest, AStepInsideTheScopeIsSeenByTheNextForward) {
  const amp::Autocast autocast(DType::bf16);
  nn::Linear layer(2, 1, {.bias = false});
  layer.weight().detach().fill_(1.0);
  optim::Sgd optimizer({{layer.named_parameters(), 0.5, 0.0}});
  const auto x = Tensor::full({1, 2}, 1.0);
  EXPECT_EQ(layer.forward(x).item(), 2.0);
  ops::sum(layer.forward(x)).backward();
  optimizer.step();
  EXPECT_EQ(layer.forward(x).item(), 1.0);
}

TEST(CastCacheTest, WhatWasCastWithoutGradientsServesTraining) {
  const amp::Autocast autocast(DType::bf16);
  const auto w = leaf({3, 4}, 1.0);
  {
    const NoGrad no_grad;
    EXPECT_FALSE(ops::linear(Tensor::full({2, 4}, 1.0), w).requires_grad());
  }
  const auto y = ops::linear(Tensor::full({2, 4}, 1.0), w);
  EXPECT_EQ(amp::cast_cache().hits, 1u);
  ops::sum(y).backward();
  EXPECT_EQ(w.grad().to_vector<float>(), std::vector<float>(12, 2.0f));
}

TEST(CastCacheTest, SeveralBackwardsShareOneCast) {
  const amp::Autocast autocast(DType::bf16);
  const auto w = leaf({3, 4}, 1.0);
  for (int i = 0; i < 3; ++i) ops::sum(ops::linear(Tensor::full({2, 4}, 1.0), w)).backward();
  EXPECT_EQ(amp::cast_cache().hits, 2u);
  EXPECT_EQ(w.grad().to_vector<float>(), std::vector<float>(12, 6.0f));
}

TEST(CastCacheTest, AWeightUsedTwiceSumsItsGradientsInFullPrecision) {
  // 1 and 2^-9: their sum has no bf16.
  const auto w = leaf({1, 1}, 1.0);
  const auto a = Tensor::full({1, 1}, 1.0), b = Tensor::full({1, 1}, 1.0 / 512);
  const amp::Autocast autocast(DType::bf16);
  ops::sum(ops::cat({ops::linear(a, w), ops::linear(b, w)}, 0)).backward();
  EXPECT_EQ(w.grad().item(), 1.0 + 1.0 / 512);
}

TEST(CastCacheTest, GradientsGoStraightIntoTheBufferThatALeafHas) {
  const auto w = leaf({3, 4}, 1.0);
  auto buffer = Tensor::full({3, 4}, -1.0);
  Tensor(w).set_grad_buffer(buffer);
  const amp::Autocast autocast(DType::bf16);
  ops::sum(ops::linear(Tensor::full({2, 4}, 1.0), w)).backward();
  EXPECT_EQ(buffer.to_vector<float>(), std::vector<float>(12, 2.0f));
  EXPECT_EQ(w.grad().data(), buffer.data());
  ops::sum(ops::linear(Tensor::full({2, 4}, 1.0), w)).backward();
  EXPECT_EQ(buffer.to_vector<float>(), std::vector<float>(12, 4.0f)) << "the second adds";
}

}  // namespace
}  // namespace weft
