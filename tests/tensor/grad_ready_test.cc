// What data-parallel training stands on: hooks when a gradient is complete, and gradient buffers.
#include <gmock/gmock.h>

#include "tests/tensor/gradcheck.h"

namespace weft::tests {
namespace {

using tensor::autograd::record;
using ::testing::Each;
using ::testing::ElementsAre;

Tensor leaf_of(std::vector<float> values) {
  const auto count = static_cast<std::int64_t>(values.size());
  auto leaf = Tensor::from(values, {count});
  leaf.set_requires_grad(true);
  return leaf;
}

std::vector<float> grad_of(const Tensor& leaf) { return leaf.grad().to_vector<float>(); }

TEST(GradReadyTest, HooksRunOnceWhenComplete) {
  const auto a = leaf_of({2}), b = leaf_of({3}), unused = leaf_of({4});
  std::vector<std::string> seen;
  a.on_grad_ready([&](const Tensor& leaf) {
    EXPECT_TRUE(leaf.same_as(a));
    EXPECT_FALSE(tensor::autograd::grad_enabled());
    seen.push_back("a" + std::to_string(static_cast<int>(leaf.grad().item())));
  });
  b.on_grad_ready([&](const Tensor& leaf) {
    seen.push_back("b" + std::to_string(static_cast<int>(leaf.grad().item())));
  });
  unused.on_grad_ready([&](const Tensor&) { seen.push_back("unused"); });
  const auto loss = [&] {  // a is used three times
    const auto first = a * a;
    const auto second = first * b;
    return second + a * b;
  };
  loss().backward();
  EXPECT_THAT(seen, ElementsAre("b6", "a15"));
  loss().backward();
  EXPECT_THAT(seen, ElementsAre("b6", "a15", "b12", "a30"));
}

TEST(GradReadyTest, HooksRunAsSoonAsTheGradientIsThere) {
  // Layer i uses weight i: the hook of the last layer's runs before the first layer's backward.
  std::vector<Tensor> weights;
  std::vector<std::string> events;
  Tensor x = Tensor::full({1}, 1.0);
  for (int i = 0; i < 4; ++i) {
    weights.push_back(leaf_of({1}));
    weights.back().on_grad_ready(
        [&events, i](const Tensor&) { events.push_back("ready" + std::to_string(i)); });
    x = record("layer", Tensor::full({1}, 1.0), {x, weights.back()},
               [&events, i](const Tensor& grad) {
                 events.push_back("layer" + std::to_string(i));
                 return std::vector<Tensor>{grad, grad};
               });
  }
  x.backward();
  EXPECT_THAT(events, ElementsAre("layer3", "ready3", "layer2", "ready2", "layer1", "ready1",
                                  "layer0", "ready0"));
}

TEST(GradReadyTest, HooksAreRemovedByTheirIds) {
  const auto x = leaf_of({1});
  int first = 0, second = 0;
  const auto id = x.on_grad_ready([&](const Tensor&) { ++first; });
  std::int64_t own = 0;
  own = x.on_grad_ready([&](const Tensor& leaf) {
    ++second;
    leaf.remove_hook(own);
  });
  (x * 2.0).backward();
  (x * 2.0).backward();
  x.remove_hook(id);
  (x * 2.0).backward();
  EXPECT_EQ(first, 2);
  EXPECT_EQ(second, 1);
}

TEST(GradReadyTest, EndOfBackwardComesAfterTheLastHook) {
  const auto a = leaf_of({1}), b = leaf_of({1});
  std::vector<std::string> seen;
  for (const auto& leaf : {a, b}) {
    leaf.on_grad_ready([&](const Tensor&) {
      seen.push_back("hook");
      tensor::autograd::after_backward([&] { seen.push_back("end"); });
    });
  }
  (a * b).backward();
  EXPECT_THAT(seen, ElementsAre("hook", "hook", "end", "end"));
}

struct Bucket {
  Tensor whole = Tensor::full({4}, -7.0);
  Tensor first = whole.narrow(0, 0, 2), second = whole.narrow(0, 2, 2);
};

TEST(GradReadyTest, GradientsLiveInTheirBuffers) {
  auto a = leaf_of({1, 2}), b = leaf_of({3, 4});
  const Bucket bucket;
  a.set_grad_buffer(bucket.first);
  b.set_grad_buffer(bucket.second);
  EXPECT_FALSE(a.grad().defined());
  ops::sum(a * b).backward();
  EXPECT_EQ(a.grad().data(), bucket.first.data());
  EXPECT_THAT(bucket.whole.to_vector<float>(), ElementsAre(3, 4, 1, 2));
  ops::sum(a * b).backward();  // adds
  EXPECT_THAT(bucket.whole.to_vector<float>(), ElementsAre(6, 8, 2, 4));
  a.zero_grad();
  b.zero_grad();
  EXPECT_FALSE(a.grad().defined());
  EXPECT_THAT(bucket.whole.to_vector<float>(), ElementsAre(6, 8, 2, 4));  // not touched
  ops::sum(a * a + a).backward();                                         // overwrites; two uses
  EXPECT_THAT(bucket.whole.to_vector<float>(), ElementsAre(3, 5, 2, 4));
  EXPECT_FALSE(b.grad().defined());
}

TEST(GradReadyTest, BuffersComeAndGo) {
  auto x = leaf_of({1, 2});
  ops::sum(x * 3.0).backward();
  const Bucket bucket;
  x.set_grad_buffer(bucket.first);  // the gradient that is there moves in
  EXPECT_THAT(bucket.whole.to_vector<float>(), ElementsAre(3, 3, -7, -7));
  EXPECT_EQ(x.grad().data(), bucket.first.data());
  x.set_grad(Tensor::full({2}, 8.0));
  EXPECT_THAT(bucket.whole.to_vector<float>(), ElementsAre(8, 8, -7, -7));
  x.set_grad_buffer({});
  x.zero_grad();
  ops::sum(x).backward();
  EXPECT_THAT(bucket.whole.to_vector<float>(), ElementsAre(8, 8, -7, -7));
  EXPECT_THAT(grad_of(x), Each(1));
  EXPECT_THROW(x.set_grad_buffer(Tensor::zeros({3})), InvalidArgument);
  EXPECT_THROW(x.set_grad_buffer(Tensor::zeros({2}, {DType::f64, {}})), InvalidArgument);
  EXPECT_THROW(x.set_grad_buffer(Tensor::zeros({1}).expand({2})), InvalidArgument);
  EXPECT_THROW(x.set_grad(Tensor::zeros({3})), InvalidArgument);
}

TEST(GradReadyTest, OperatorsComputeStraightIntoTheBuffer) {
  auto w = Tensor::full({2, 2}, 1.0);
  w.set_requires_grad(true);
  const auto buffer = Tensor::full({2, 2}, -7.0);
  w.set_grad_buffer(buffer);
  const auto x = Tensor::from(std::vector<float>{1, 2, 3, 4}, {2, 2});
  std::vector<const void*> given;
  const auto through = [&](const Tensor& weight) {
    return record("product", Tensor::zeros({2, 2}), {weight}, [&, weight](const Tensor& grad) {
      auto into = tensor::autograd::empty_gradient(weight);
      given.push_back(into.data());
      into.copy_(ops::mul(grad, x));
      return std::vector<Tensor>{into};
    });
  };
  (through(w) + through(w)).backward(Tensor::full({2, 2}, 1.0));
  ASSERT_EQ(given.size(), 2u);
  EXPECT_EQ(given[0], buffer.data());  // the first is in place, the second is added to it
  EXPECT_NE(given[1], buffer.data());
  EXPECT_THAT(buffer.to_vector<float>(), ElementsAre(2, 4, 6, 8));
  through(w).backward(Tensor::full({2, 2}, 1.0));
  EXPECT_NE(given[2], buffer.data());  // holds a gradient already
  EXPECT_THAT(buffer.to_vector<float>(), ElementsAre(3, 6, 9, 12));
}

TEST(GradReadyTest, ProductsOfALeafWithItselfShareOneBuffer) {
  auto w = Tensor::from(std::vector<double>{1, 2, 3, 4}, {2, 2});
  w.set_requires_grad(true);
  const auto buffer = Tensor::zeros({2, 2}, {DType::f64, {}});
  ops::matmul(w, w).backward(Tensor::full({2, 2}, 1.0, {DType::f64, {}}));
  const auto expected = w.grad().to_vector<double>();
  w.set_grad_buffer(buffer);
  w.zero_grad();
  ops::matmul(w, w).backward(Tensor::full({2, 2}, 1.0, {DType::f64, {}}));
  EXPECT_EQ(buffer.to_vector<double>(), expected);
  EXPECT_EQ(expected, (std::vector<double>{7, 11, 9, 13}));
}

TEST(GradReadyTest, TransposedGradientsOfTheBufferAreCopied) {
  auto w = Tensor::zeros({2, 2});
  w.set_requires_grad(true);
  const auto buffer = Tensor::zeros({2, 2});
  w.set_grad_buffer(buffer);
  const auto y = record("turned", Tensor::zeros({2, 2}), {w}, [w](const Tensor& grad) {
    auto into = tensor::autograd::empty_gradient(w);
    into.copy_(grad);
    return std::vector<Tensor>{into.transpose(0, 1)};
  });
  y.backward(Tensor::from(std::vector<float>{1, 2, 3, 4}, {2, 2}));
  EXPECT_THAT(buffer.to_vector<float>(), ElementsAre(1, 3, 2, 4));
}

TEST(GradReadyTest, AGradientMayBeTheSeedOfTheNextBackward) {
  constexpr std::int64_t kSide = 70;
  auto w = random_tensor({kSide, kSide}, 1);
  w.set_requires_grad(true);
  const auto seed = random_tensor({kSide, kSide}, 2);
  w.set_grad(seed.clone());
  w.view({kSide, kSide}).backward(w.grad());
  EXPECT_EQ(w.grad().to_vector<double>(), (seed * 2.0).to_vector<double>());
  w.transpose(0, 1).backward(w.grad());  // adds its own transpose to it
  EXPECT_EQ(w.grad().to_vector<double>(),
            ((seed + seed.transpose(0, 1)) * 2.0).to_vector<double>());
}

TEST(GradReadyTest, LatestMadeRunsFirst) {
  // Whatever the order of use: so gradients come in the reverse order of the forward pass.
  std::vector<std::string> events;
  const auto layer = [&](const Tensor& x, const std::string& name) {
    return record("layer", Tensor::full({1}, 1.0), {x}, [&events, name](const Tensor& grad) {
      events.push_back(name);
      return std::vector<Tensor>{grad};
    });
  };
  const auto x = leaf_of({1});
  const auto a1 = layer(x, "a1"), b1 = layer(x, "b1"), a2 = layer(a1, "a2"), b2 = layer(b1, "b2");
  (a2 + b2).backward();
  EXPECT_THAT(events, ElementsAre("b2", "a2", "b1", "a1"));
  events.clear();
  const auto c = layer(x, "c"), d = layer(x, "d");
  (d + c).backward();
  EXPECT_THAT(events, ElementsAre("d", "c"));
}

TEST(GradReadyTest, BorrowedGradientsAreLeftAlone) {
  std::vector<float> memory = {5.0f};
  const auto borrowed = [&memory](const Tensor& x) {
    return record("borrowed", Tensor::zeros({1}), {x}, [&memory](const Tensor&) {
      const auto storage = tensor::Storage::borrow(memory.data(), Bytes(4), nullptr);
      return std::vector<Tensor>{Tensor::wrap(storage, {1}, DType::f32)};
    });
  };
  const auto x = leaf_of({1});
  (borrowed(x) + borrowed(x)).backward();
  EXPECT_THAT(grad_of(x), Each(10));
  const auto y = leaf_of({1});
  borrowed(y).backward();
  y.grad().fill_(1.0);
  EXPECT_EQ(memory[0], 5.0f);
}

TEST(GradReadyTest, AnInnerBackwardLeavesTheOuterOneInCharge) {
  auto w = leaf_of({3});
  const auto buffer = Tensor::zeros({1});
  w.set_grad_buffer(buffer);
  const void* given = nullptr;
  const auto y = record("outer", Tensor::zeros({1}), {w}, [&](const Tensor& grad) {
    const auto inner = leaf_of({2});
    const tensor::autograd::EnableGrad enable;
    (inner * inner).backward(grad);
    const auto into = tensor::autograd::empty_gradient(w);
    given = into.data();
    into.copy_(inner.grad());
    return std::vector<Tensor>{into};
  });
  y.backward();
  EXPECT_EQ(given, buffer.data());
  EXPECT_THAT(buffer.to_vector<float>(), Each(4));
}

}  // namespace
}  // namespace weft::tests
