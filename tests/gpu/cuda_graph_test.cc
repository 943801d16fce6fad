// Training steps as CUDA graphs: the same numbers as without, fresh dropout, and what is refused.
#include "tensor/cuda_graph.h"

#include <gmock/gmock.h>

#include "tensor/cuda_allocator.h"
#include "tensor/nn/gpt.h"
#include "tensor/nn/layers.h"
#include "tensor/optim/adam.h"
#include "tensor/optim/clip.h"
#include "tests/gpu/cuda_tensors.h"

namespace weft::tests {
namespace {

using tensor::GraphedStep;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

class CudaGraphTest : public CudaTensorTest {};

// A small network with dropout and its optimizer, and one step of it.
struct Trainee {
  explicit Trainee(double dropout)
      : first(12, 16, {}, &start), drop(dropout), last(16, 5, {}, &start) {
    first.to(kCuda);
    last.to(kCuda);
    std::vector<nn::NamedTensor> all;
    for (auto* part : {&first, &last}) {
      for (auto& [name, tensor] : part->named_parameters()) {
        all.push_back({fmt::format("{}.{}", part == &first ? "first" : "last", name), tensor});
        parameters.push_back(tensor);
      }
    }
    optimizer =
        std::make_unique<optim::AdamW>(std::vector<optim::ParameterGroup>{{all, 0.01, 0.1}});
  }
  Tensor step(const Tensor& x, const Tensor& targets) {
    optimizer->zero_grad();
    const auto hidden = drop.forward(ops::relu(first.forward(x)));
    const auto loss = ops::cross_entropy(last.forward(hidden), targets);
    loss.backward();
    optim::clip_grad_norm_tensor_(parameters, 0.5);
    optimizer->step();
    return loss.detach();
  }
  std::vector<double> values() const {
    std::vector<double> all;
    for (const auto& p : parameters) {
      for (const double v : values_of(p)) all.push_back(v);
    }
    return all;
  }

  tensor::Generator start{4};
  nn::Linear first;
  nn::Dropout drop;
  nn::Linear last;
  std::vector<Tensor> parameters;
  std::unique_ptr<optim::AdamW> optimizer;
};

struct Data {
  explicit Data(int i)
      : x(normal({6, 12}, static_cast<std::uint64_t>(10 + i))),
        targets(integers({6}, 5, static_cast<std::uint64_t>(20 + i))) {}
  Tensor x, targets;
};

void expect_same_training(double dropout) {
  constexpr int kSteps = 7;
  std::vector<double> eager_losses, eager_values;
  {
    tensor::default_generator() = tensor::Generator(8);
    Trainee trainee(dropout);
    for (int i = 0; i < kSteps; ++i) {
      if (i == 5) trainee.optimizer->set_learning_rate(0.003);
      const Data data(i);
      eager_losses.push_back(trainee.step(data.x.to(kCuda), data.targets.to(kCuda)).item());
    }
    eager_values = trainee.values();
  }
  tensor::default_generator() = tensor::Generator(8);
  Trainee trainee(dropout);
  GraphedStep step([&](const std::vector<Tensor>& in) -> std::vector<Tensor> {
    return {trainee.step(in[0], in[1])};
  });
  std::vector<double> losses;
  for (int i = 0; i < kSteps; ++i) {
    if (i == 5) trainee.optimizer->set_learning_rate(0.003);
    const Data data(i);
    losses.push_back(step({data.x, data.targets})[0].item());
    EXPECT_EQ(step.is_captured(), i >= 2);
  }
  EXPECT_EQ(step.launches(), kSteps - 2);
  EXPECT_EQ(losses, eager_losses);
  EXPECT_EQ(trainee.values(), eager_values);
}

TEST_F(CudaGraphTest, AGraphTrainsToTheSameBits) { expect_same_training(0.0); }

TEST_F(CudaGraphTest, DropoutDrawsWhatItWouldHaveDrawnWithoutAGraph) { expect_same_training(0.4); }

TEST_F(CudaGraphTest, AWholeGptStepIsCaptured) {
  nn::GPTConfig config;
  config.block_size = 8, config.vocab_size = 17, config.n_layer = 1, config.n_head = 2;
  config.n_embd = 16, config.dropout = 0.1;
  tensor::default_generator() = tensor::Generator(2);
  nn::GPT model(config);
  model.to(kCuda);
  optim::AdamW optimizer(optim::decay_groups(model.named_parameters(), 1e-2, 0.1));
  GraphedStep step([&](const std::vector<Tensor>& in) -> std::vector<Tensor> {
    optimizer.zero_grad();
    const auto loss = model.forward(in[0], in[1]).loss;
    loss.backward();
    optim::clip_grad_norm_tensor_(model.parameters(), 1.0);
    optimizer.step();
    return {loss.detach()};
  });
  const auto tokens = integers({2, 8}, 17, 1), targets = integers({2, 8}, 17, 2);
  const double first = step({tokens, targets})[0].item();
  double last = 0;
  for (int i = 0; i < 15; ++i) last = step({tokens, targets})[0].item();
  EXPECT_LT(last, first - 0.5);
  EXPECT_EQ(nn::find(optimizer.state_dict(), "transformer.wte.weight.step")->item(), 16.0);
}

TEST_F(CudaGraphTest, AGraphsMemoryIsItsOwn) {
  const auto x = normal({4000}, 1).to(kCuda);
  GraphedStep step([](const std::vector<Tensor>& in) -> std::vector<Tensor> {
    const auto squared = ops::mul(in[0], in[0]);
    return {ops::add(squared, 1.0)};
  });
  for (int i = 0; i < 3; ++i) step({x});
  std::vector<Tensor> intruders;  // would land in the intermediate's block, were it anybody's
  for (int i = 0; i < 10; ++i) intruders.push_back(Tensor::full({4000}, 5.0, {DType::f32, kCuda}));
  const auto out = step({x})[0];
  EXPECT_LE(relative_distance(out, ops::add(ops::mul(x, x), 1.0)), 1e-6);
  for (const auto& intruder : intruders) {
    EXPECT_EQ(values_of(intruder), std::vector<double>(4000, 5.0));
  }
}

TEST_F(CudaGraphTest, WhatWaitsForTheDeviceIsRefusedWhileCaptured) {
  const auto attempt = [](const std::function<void(const Tensor&)>& wait) {
    GraphedStep step([&, calls = 0](const std::vector<Tensor>& in) mutable -> std::vector<Tensor> {
      const auto doubled = ops::mul(in[0], 2.0);
      if (++calls == 3) wait(doubled);
      return {doubled};
    });
    const auto x = normal({3}, 1);
    step({x});
    step({x});
    step({x});
  };
  const auto refused = ThrowsMessage<InvalidArgument>(HasSubstr("captured"));
  EXPECT_THAT([&] { attempt([](const Tensor& t) { t.to_vector<float>(); }); }, refused);
  EXPECT_THAT([&] { attempt([](const Tensor& t) { ops::sum(t).item(); }); }, refused);
  EXPECT_THAT([&] { attempt([](const Tensor& t) { (void)t.to(Device{}); }); }, refused);
  EXPECT_THAT(
      [&] { attempt([](const Tensor& t) { (void)ops::add(t, normal({3}, 2).to(kCuda)); }); },
      refused);
  EXPECT_THAT([&] { attempt([](const Tensor&) { tensor::Stream::current(kCuda).synchronize(); }); },
              refused);
  tensor::Generator stranger(1);
  EXPECT_THAT([&] { attempt([&](const Tensor& t) { (void)ops::dropout(t, 0.5, stranger); }); },
              ThrowsMessage<InvalidArgument>(HasSubstr("GraphOptions::generator")));
  EXPECT_EQ(ops::sum(Tensor::full({4}, 1.0, {DType::f32, kCuda})).item(), 4.0)
      << "the device is usable afterwards";
}

TEST_F(CudaGraphTest, OtherShapesAndBadOptionsAreRefused) {
  GraphedStep step([](const std::vector<Tensor>& in) -> std::vector<Tensor> { return {in[0]}; });
  step({normal({3, 2}, 1)});
  EXPECT_THAT(
      [&] {
        step({normal({2, 3}, 1)});
      },
      ThrowsMessage<InvalidArgument>(
          AllOf(HasSubstr("input 0"), HasSubstr("(2, 3)"), HasSubstr("(3, 2)"))));
  EXPECT_THROW(step({normal({3, 2}, 1, DType::f64)}), InvalidArgument);
  EXPECT_THROW(step({}), InvalidArgument);
  EXPECT_THROW(GraphedStep({}), InvalidArgument);
  const auto nothing = [](const std::vector<Tensor>&) { return std::vector<Tensor>(); };
  EXPECT_THROW(GraphedStep(nothing, {.warmup = 0}), InvalidArgument);
  EXPECT_THROW(GraphedStep(nothing, {.device = {}}), InvalidArgument);
}

TEST_F(CudaGraphTest, ItsMemoryComesBackWhenItEnds) {
  const auto x = normal({50000}, 1);
  const auto before = tensor::cuda_memory_stats(kCuda).in_use;
  {
    GraphedStep step([](const std::vector<Tensor>& in) -> std::vector<Tensor> {
      return {ops::exp(ops::mul(in[0], 0.1))};
    });
    for (int i = 0; i < 4; ++i) step({x});
    EXPECT_GT(tensor::cuda_memory_stats(kCuda).in_use, before);
  }
  tensor::synchronize(kCuda);
  (void)Tensor::empty({1}, {DType::f32, kCuda});  // events are looked at
  EXPECT_EQ(tensor::cuda_memory_stats(kCuda).in_use, before);
}

}  // namespace
}  // namespace weft::tests
