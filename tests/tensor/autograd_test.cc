// The engine: accumulation, order, hooks, buffers, deep graphs, misuse.
#include <gmock/gmock.h>

#include "tests/tensor/gradcheck.h"

namespace weft::tests {
namespace {

using tensor::autograd::record;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

Tensor leaf_of(std::vector<float> values) {
  const auto count = static_cast<std::int64_t>(values.size());
  auto leaf = Tensor::from(values, {count});
  leaf.set_requires_grad(true);
  return leaf;
}

std::vector<float> grad_of(const Tensor& leaf) { return leaf.grad().to_vector<float>(); }

TEST(AutogradTest, UsesAreSummed) {
  const auto x = leaf_of({2, 3});
  ops::sum(x * x + x * 4.0 + x).backward();
  EXPECT_THAT(grad_of(x), ElementsAre(9, 11));
}

TEST(AutogradTest, DiamondsRunEachNodeOnce) {
  const auto x = leaf_of({1, 1});
  auto y = x;
  for (int i = 0; i < 40; ++i) y = y + y;  // 2^40 paths
  y.backward(Tensor::full({2}, 1.0));
  EXPECT_THAT(grad_of(x), Each(1099511627776.0f));
}

TEST(AutogradTest, GradientsAccumulateOverBackwards) {
  const auto x = leaf_of({1, 2});
  ops::sum(x * x).backward();
  ops::sum(x * 10.0).backward();
  EXPECT_THAT(grad_of(x), ElementsAre(12, 14));
  auto copy = x;
  copy.zero_grad();
  EXPECT_FALSE(x.grad().defined());
  ops::sum(x * 10.0).backward();
  EXPECT_THAT(grad_of(x), Each(10));
}

TEST(AutogradTest, LeavesNeverShareGradients) {
  const auto a = leaf_of({1, 2}), b = leaf_of({3, 4});
  auto seed = Tensor::from(std::vector<float>{5, 6}, {2});
  (a + b).backward(seed);
  a.grad().fill_(0.0);
  seed.fill_(0.0);
  EXPECT_THAT(grad_of(a), Each(0));
  EXPECT_THAT(grad_of(b), ElementsAre(5, 6));
}

TEST(AutogradTest, CapturedTensorsAreNotWrittenTo) {
  // One gradient goes to three places: the engine may not sum into it while others hold it.
  const auto x = leaf_of({1}), y = leaf_of({1});
  const auto shared = Tensor::full({1}, 7.0);
  const auto f = record("f", Tensor::zeros({1}), {x, y, x},
                        [shared](const Tensor&) { return std::vector<Tensor>(3, shared); });
  f.backward();
  EXPECT_THAT(shared.to_vector<float>(), Each(7));
  EXPECT_THAT(grad_of(x), Each(14));
  EXPECT_THAT(grad_of(y), Each(7));
}

TEST(AutogradTest, ExpandedGradientsAreMadeWhole) {
  const auto x = leaf_of({1, 2, 3});
  ops::sum(x).backward();
  EXPECT_TRUE(x.grad().is_contiguous());
  ops::sum(x).backward();
  EXPECT_THAT(grad_of(x), Each(2));
}

TEST(AutogradTest, ALeafIsItsOwnGraph) {
  auto x = Tensor::scalar(3.0);
  x.set_requires_grad(true);
  x.backward();
  EXPECT_EQ(x.grad().item(), 1.0);
}

TEST(AutogradTest, OnlyWhatRequiresGradGetsOne) {
  const auto x = leaf_of({1, 2});
  const auto fixed = Tensor::full({2}, 3.0);
  const auto y = x * fixed;
  EXPECT_TRUE(y.requires_grad());
  EXPECT_FALSE(y.is_leaf());
  EXPECT_FALSE((fixed * fixed).requires_grad());
  EXPECT_FALSE((y.detach() * fixed).requires_grad());
  ops::sum(y).backward();
  EXPECT_FALSE(fixed.grad().defined());
  EXPECT_THAT(grad_of(x), Each(3));
}

TEST(AutogradTest, NoGradIsPerThreadAndNests) {
  const auto x = leaf_of({1});
  {
    const NoGrad outer;
    { const NoGrad inner; }
    EXPECT_FALSE(tensor::autograd::grad_enabled());
    EXPECT_FALSE((x * 2.0).requires_grad());
    EXPECT_FALSE(x.narrow(0, 0, 1).requires_grad());
  }
  EXPECT_TRUE((x * 2.0).requires_grad());
}

TEST(AutogradTest, MisuseIsExplained) {
  const auto x = leaf_of({1, 2});
  const auto y = ops::sum(x * x);
  y.backward();
  EXPECT_THAT([&] { y.backward(); }, ThrowsMessage<InvalidArgument>(
                                         AllOf(HasSubstr("earlier backward"), HasSubstr("sum"))));
  const auto shared = x * x;
  ops::sum(shared).backward();
  EXPECT_THAT([&] { ops::sum(shared * 2.0).backward(); },
              ThrowsMessage<InvalidArgument>(HasSubstr("'mul'")));
  EXPECT_THAT([&] { (x * 2.0).backward(); },
              ThrowsMessage<InvalidArgument>(AllOf(HasSubstr("(2,)"), HasSubstr("scalar"))));
  EXPECT_THROW((x * 2.0).backward(Tensor::zeros({3})), InvalidArgument);
  EXPECT_THROW((x * 2.0).backward(Tensor::zeros({2}, {DType::f64, {}})), InvalidArgument);
  EXPECT_THAT([] { Tensor::zeros({}).backward(); },
              ThrowsMessage<InvalidArgument>(HasSubstr("requires grad")));
  auto made = x * 2.0;
  EXPECT_THAT([&] { made.set_requires_grad(true); },
              ThrowsMessage<InvalidArgument>(AllOf(HasSubstr("'mul'"), HasSubstr("leaf"))));
  EXPECT_THROW(made.set_grad_buffer(Tensor::zeros({2})), InvalidArgument);
  EXPECT_THROW(made.on_grad_ready([](const Tensor&) {}), InvalidArgument);
  EXPECT_THROW(Tensor::zeros({2}, {DType::i64, {}}).set_requires_grad(true), InvalidArgument);
}

TEST(AutogradTest, AWrongGradientShapeNamesTheOperation) {
  const auto x = leaf_of({1, 2});
  const auto y = record("crooked", Tensor::zeros({}), {x},
                        [](const Tensor&) { return std::vector<Tensor>{Tensor::zeros({3})}; });
  EXPECT_THAT([&] { y.backward(); },
              ThrowsMessage<InvalidArgument>(AllOf(HasSubstr("crooked"), HasSubstr("(3,)"))));
}

TEST(AutogradTest, CapturedTensorsAreFreedByBackwardAndByForgetting) {
  const auto x = leaf_of({1, 2});
  std::weak_ptr<tensor::TensorImpl> watch;
  Tensor y;
  {
    const auto kept = Tensor::full({2}, 2.0);
    watch = kept.shared_impl();
    y = record("holds", Tensor::zeros({}), {x},
               [kept](const Tensor&) { return std::vector<Tensor>{kept}; });
  }
  EXPECT_FALSE(watch.expired());
  y.backward();
  {
    // The gradient itself was the captured tensor: nobody else held it, so it moved in.
    EXPECT_EQ(x.grad().shared_impl(), watch.lock());
  }
  Tensor(x).zero_grad();
  EXPECT_TRUE(watch.expired());
  const auto big = x * x;
  std::weak_ptr<tensor::TensorImpl> product;
  {
    const auto z = ops::exp(big * big);
    product = z.shared_impl();
  }
  EXPECT_TRUE(product.expired());  // exp keeps its output's elements, not the output
}

TEST(AutogradTest, VeryDeepGraphsNeedNoStack) {
  const auto x = leaf_of({1});
  auto y = x;
  for (int i = 0; i < 100'000; ++i) y = y + 1.0;
  y.backward();
  EXPECT_THAT(grad_of(x), Each(1));
  y = x;
  for (int i = 0; i < 100'000; ++i) y = y * x.detach() + x;  // forgotten without backward
  y = Tensor();
  // A chain that only captured tensors hold together.
  Tensor held = x * 1.0;
  for (int i = 0; i < 100'000; ++i) {
    held = record("chain", Tensor::zeros({1}), {x},
                  [held](const Tensor& grad) { return std::vector<Tensor>{grad}; });
  }
  held = Tensor();
}

TEST(AutogradTest, UndefinedGradientsStillCountAsUses) {
  const auto x = leaf_of({1}), unused = leaf_of({1});
  const auto middle = x * 3.0;
  const auto dead = unused * 2.0;
  const auto y =
      record("picks", Tensor::zeros({1}), {middle, dead, middle}, [](const Tensor& grad) {
        return std::vector<Tensor>{grad, {}, {}};
      });
  int hooks = 0;
  unused.on_grad_ready([&](const Tensor&) { ++hooks; });
  y.backward();
  EXPECT_THAT(grad_of(x), Each(3));
  EXPECT_FALSE(unused.grad().defined());
  EXPECT_EQ(hooks, 0);
}

// Adds `value` to element `at` of its input's gradient.
Tensor poke(const Tensor& input, std::int64_t at, float value, const void** where = nullptr) {
  return record("poke", Tensor::zeros({1}), {input}, [=](const Tensor&) {
    const auto sum = tensor::autograd::summed_gradient(0);
    if (where != nullptr) *where = sum.data();
    const auto element = sum.narrow(0, at, 1);
    element.fill_(element.item() + value);
    return std::vector<Tensor>{sum};
  });
}

TEST(AutogradTest, PartsAreAddedToTheSumSoFar) {
  auto x = leaf_of({0, 0, 0});
  const auto all = [&] {
    return poke(x, 0, 1) + poke(x, 2, 5) + ops::sum(x * 10.0) + poke(x, 2, 7);
  };
  all().backward();
  EXPECT_THAT(grad_of(x), ElementsAre(11, 10, 22));
  all().backward();
  EXPECT_THAT(grad_of(x), ElementsAre(22, 20, 44));
  const auto buffer = Tensor::full({3}, -7.0);
  x.zero_grad();
  x.set_grad_buffer(buffer);
  const void *first = nullptr, *second = nullptr;
  (poke(x, 0, 1, &first) + poke(x, 1, 2, &second)).backward();
  EXPECT_EQ(first, buffer.data());
  EXPECT_EQ(second, buffer.data());
  EXPECT_THAT(buffer.to_vector<float>(), ElementsAre(1, 2, 0));
  (poke(x, 0, 1, &first) + poke(x, 1, 2)).backward();  // there is a gradient: not into the buffer
  EXPECT_NE(first, buffer.data());
  EXPECT_THAT(buffer.to_vector<float>(), ElementsAre(2, 4, 0));
}

TEST(AutogradTest, SharedGradientsAreNotExtended) {
  // The first gradient to arrive is held by another node too, when the second wants to add to it.
  const auto x = leaf_of({1, 1}), y = leaf_of({1, 1});
  const auto sliced = ops::sum(x.narrow(0, 0, 1));
  const auto both = x + y;
  ops::sum(both * both + sliced).backward();
  EXPECT_THAT(grad_of(x), ElementsAre(6, 4));
  EXPECT_THAT(grad_of(y), ElementsAre(4, 4));
  EXPECT_THROW(tensor::autograd::summed_gradient(0), InvalidArgument);
}

TEST(AutogradTest, BackwardMayRunInsideBackward) {
  // As activation checkpointing does: the inner graph is made and run while the outer one runs.
  const auto w = leaf_of({3});
  const auto x = leaf_of({2});
  const auto kept = x.detach();
  const auto y =
      record("checkpoint", Tensor::full({1}, 12.0), {x, w}, [kept, w](const Tensor& grad) {
        auto input = kept.detach();
        input.set_requires_grad(true);
        auto weight = w.detach();
        weight.set_requires_grad(true);
        const tensor::autograd::EnableGrad enable;
        (input * input * weight).backward(grad);
        return std::vector<Tensor>{input.grad(), weight.grad()};
      });
  (y * 2.0).backward();
  EXPECT_THAT(grad_of(x), Each(24));
  EXPECT_THAT(grad_of(w), Each(8));
}

TEST(AutogradTest, AThrowingOperatorLeavesTheEngineUsable) {
  const auto x = leaf_of({1});
  const auto bad = record("bad", Tensor::zeros({1}), {x}, [](const Tensor&) -> std::vector<Tensor> {
    throw std::runtime_error("no luck");
  });
  EXPECT_THROW((bad * 2.0).backward(), std::runtime_error);
  EXPECT_TRUE(tensor::autograd::grad_enabled());
  (x * 2.0).backward();
  EXPECT_THAT(grad_of(x), Each(2));
  EXPECT_THROW(tensor::autograd::after_backward([] {}), InvalidArgument);
}

TEST(AutogradTest, LeavesInReachAreListed) {
  const auto a = leaf_of({1}), b = leaf_of({1}), c = leaf_of({1});
  const auto y = a * b + a;
  const auto found = tensor::autograd::reachable_leaves(y);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_TRUE(found[0].same_as(a));
  EXPECT_TRUE(found[1].same_as(b));
  EXPECT_TRUE(tensor::autograd::reachable_leaves(c.detach()).empty());
  y.backward();
}

}  // namespace
}  // namespace weft::tests
