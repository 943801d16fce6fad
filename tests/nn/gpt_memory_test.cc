// What a training step of a GPT is said to need, against what it asked the allocator for.
#include "tensor/nn/gpt_memory.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>

#include "kernels/base/error.h"
#include "kernels/base/thread_pool.h"
#include "tensor/memory_use.h"
#include "tensor/optim/adam.h"

namespace weft::nn_test {
namespace {

struct Case {
  const char* name;
  nn::GPTConfig model;
  nn::StepShape shape;
  amp::Precision precision = amp::Precision::true_32;
};

Tensor tokens(const Case& c, std::uint64_t seed) {
  tensor::Generator generator(seed);
  const auto count = c.shape.batch_size * c.shape.time;
  std::vector<std::int32_t> values(static_cast<std::size_t>(count));
  for (auto& value : values) {
    value = static_cast<std::int32_t>(
        generator.next_below(static_cast<std::uint64_t>(c.model.vocab_size)));
  }
  return Tensor::from(values, {c.shape.batch_size, c.shape.time});
}

using nn::GradientMemory;

// As Fabric sets a model up and trains it; buffers as DDP gives them.
Bytes measure(const Case& c, GradientMemory gradients) {
  ThreadPool pool(1);
  const ScopedThreadPool scope(pool);
  const auto policy = amp::policy_of(c.precision);
  nn::GPT model(c.model);
  model.to(policy.parameters);
  model.set_policy(policy);
  if (gradients == GradientMemory::kept) {
    for (auto& parameter : model.parameters()) {
      parameter.set_grad_buffer(Tensor::zeros(parameter.shape(), {parameter.dtype()}));
    }
  }
  optim::AdamW optimizer(optim::decay_groups(model.named_parameters(), 1e-3, 0.1));
  const auto before = tensor::tensor_memory().now;
  Bytes step_memory;
  for (int step = 0; step < 2; ++step) {
    tensor::reset_tensor_memory_peak();
    {
      const auto inputs = tokens(c, 1), targets = tokens(c, 2);
      for (int micro = 0; micro < (c.shape.accumulates ? 2 : 1); ++micro) {
        auto loss = model.forward(inputs, targets).loss;
        loss.backward();
      }
      optimizer.step();
    }
    step_memory = tensor::tensor_memory().peak - before;
    optimizer.zero_grad();
    EXPECT_EQ(tensor::tensor_memory().now, before) << "a step leaves nothing behind";
  }
  return step_memory;
}

double ratio(Bytes predicted, Bytes measured) {
  return static_cast<double>(predicted.value) / static_cast<double>(measured.value);
}

nn::GPTConfig gpt(std::int64_t layers, std::int64_t width, std::int64_t vocab, std::int64_t block,
                  double dropout = 0, bool bias = true) {
  return {.block_size = block,
          .vocab_size = vocab,
          .n_layer = layers,
          .n_head = 4,
          .n_embd = width,
          .dropout = dropout,
          .bias = bias};
}

std::vector<Case> cases() {
  using amp::Precision;
  std::vector<Case> all = {
      {"small, batch large", gpt(2, 32, 65, 32), {8, 32}},
      {"middle, as the demo", gpt(4, 128, 96, 64), {12, 64}},
      {"vocabulary large: logits weigh most", gpt(2, 64, 4096, 64), {4, 64}},
      {"batch of one short sequence: the table's gradient weighs most",
       gpt(2, 128, 2048, 64),
       {1, 16}},
      {"wide and deep, batch small", gpt(6, 192, 256, 64), {2, 64}},
      {"accumulated", gpt(3, 96, 128, 64), {2, 64, true}},
      {"accumulated, batch small", gpt(2, 128, 512, 32), {1, 32, true}},
      {"dropout", gpt(3, 96, 128, 64, 0.1), {6, 64}},
      {"no biases", gpt(3, 96, 128, 64, 0, false), {6, 64}},
  };
  const auto shapes = all;
  for (const auto precision : {Precision::mixed_bf16, Precision::true_bf16, Precision::true_64}) {
    for (auto one : shapes) {
      one.precision = precision;
      all.push_back(one);
    }
  }
  return all;
}

void expect_within_a_tenth(GradientMemory gradients) {
  double worst = 0;
  for (const auto& c : cases()) {
    SCOPED_TRACE(std::string(c.name) + ", " + std::string(amp::name_of(c.precision)));
    const auto measured = measure(c, gradients);
    const auto predicted = nn::gpt_step_memory(c.model, c.shape, c.precision, gradients);
    EXPECT_NEAR(ratio(predicted, measured), 1.0, 0.10)
        << "predicted " << predicted.value << ", measured " << measured.value;
    worst = std::max(worst, std::abs(ratio(predicted, measured) - 1.0));
  }
  std::printf("the worst is off by %.1f %%\n", worst * 100);
}

TEST(GptMemoryTest, AStepIsWithinATenthOfWhatItAskedFor) {
  expect_within_a_tenth(GradientMemory::kept);
}

TEST(GptMemoryTest, SoItIsWhereGradientsAreAskedForOnTheWay) {
  expect_within_a_tenth(GradientMemory::asked_for);
}

TEST(GptMemoryTest, ParametersAreCountedByUnit) {
  for (const bool bias : {true, false}) {
    const auto config = gpt(3, 48, 100, 32, 0, bias);
    const nn::GPT model(config);
    EXPECT_EQ(nn::gpt_parameters(config).value, model.num_parameters(true));
    const auto units = nn::gpt_units(config);
    ASSERT_EQ(units.size(), 4u);
    Elems block;
    for (const auto& entry : model.named_parameters()) {
      if (entry.name.starts_with("transformer.h.1.")) block += Elems(entry.tensor.numel());
    }
    EXPECT_EQ(units[2], block);
  }
  const nn::GPTConfig gpt2{.vocab_size = 50257};
  EXPECT_EQ(nn::gpt_parameters(gpt2).value, 124'439'808) << "GPT-2's smallest";
}

TEST(GptMemoryTest, RefusesABatchThatTheModelDoesNotTake) {
  const auto config = gpt(1, 16, 10, 8);
  for (const nn::StepShape shape : {nn::StepShape{0, 8}, {1, 0}, {1, 9}, {-1, 8}}) {
    EXPECT_THROW(nn::gpt_step_memory(config, shape, amp::Precision::true_32), InvalidArgument);
  }
  auto broken = config;
  broken.n_head = 3;
  EXPECT_THROW(nn::gpt_units(broken), InvalidArgument);
}

}  // namespace
}  // namespace weft::nn_test
