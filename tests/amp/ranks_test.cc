// The loss scale on two ranks: whatever happens on one, both do the same.
#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <span>
#include <vector>

#include "tensor/amp/autocast.h"
#include "tensor/amp/grad_scaler.h"
#include "tensor/nn/layers.h"
#include "tensor/ops/basic.h"
#include "tensor/ops/nn.h"
#include "tensor/optim/sgd.h"
#include "tensor/parallel/ddp.h"
#include "tests/parallel/in_process_world.h"

namespace weft {
namespace {

using tests::message_of;
using tests::run_world;
using tests::run_world_catching;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int kWorld = 2;

// What a rank saw in each update.
struct Story {
  std::vector<bool> stepped;
  std::vector<double> scales;
  std::vector<float> weights;
  bool operator==(const Story&) const = default;
};

Tensor input(int rank, int step, bool bad) {
  auto x = Tensor::full({2, 3}, 0.25 * (rank + 1) + 0.125 * step);
  if (bad) x.narrow(1, 1, 1).fill_(kInfinity);
  return x;
}

// `bad` tells whether a rank's input of a step is infinite.
template <class Bad>
std::vector<Story> train(bool synchronised, int steps, const Bad& bad) {
  std::vector<Story> stories(kWorld);
  run_world(kWorld, [&](Communicator& comm) {
    tensor::Generator generator(3);
    nn::Linear layer(3, 2, {}, &generator);
    optim::Sgd optimizer({{layer.named_parameters(), 0.01, 0.0}});
    // The gradient of a sum, 1, times 65536 is no f16.
    amp::GradScaler scaler({.initial_scale = 1024, .growth_interval = 2});
    std::optional<parallel::Ddp> ddp;
    if (synchronised) {
      ddp.emplace(layer.named_parameters(), layer.named_buffers(), comm);
    } else {  // as sharded gradients are: each rank sees its own alone
      scaler.set_verdict([&](bool here) {
        std::array<std::uint8_t, 1> any{here};
        comm.all_reduce(std::span(any), ReduceOp::max);
        return any[0] != 0;
      });
    }
    auto& story = stories[static_cast<std::size_t>(comm.rank())];
    for (int step = 0; step < steps; ++step) {
      const auto loss = [&] {
        const amp::Autocast autocast(DType::f16);
        return ops::sum(layer.forward(input(comm.rank(), step, bad(comm.rank(), step))));
      }();
      const auto scaled = scaler.scaled(loss);
      if (ddp) {
        ddp->backward(scaled);
      } else {
        scaled.backward();
      }
      story.stepped.push_back(scaler.step(optimizer));
      scaler.update();
      story.scales.push_back(scaler.scale());
      optimizer.zero_grad();
    }
    story.weights = layer.weight().to_vector<float>();
  });
  return stories;
}

TEST(GradScalerRanksTest, InfinityOnOneRankSkipsTheStepOnBoth) {
  const auto stories =
      train(true, 6, [](int rank, int step) { return rank == 1 && (step == 1 || step == 4); });
  EXPECT_EQ(stories[0], stories[1]) << "gradients are averaged: the same infinity everywhere";
  EXPECT_EQ(stories[0].stepped, (std::vector<bool>{true, false, true, true, false, true}));
  EXPECT_EQ(stories[0].scales, (std::vector<double>{1024, 512, 512, 1024, 512, 512}));
  for (const float w : stories[0].weights) EXPECT_TRUE(std::isfinite(w));
}

TEST(GradScalerRanksTest, GradientsThatAreNotCommonAreJudgedTogether) {
  const auto stories = train(false, 4, [](int rank, int step) { return rank == step % 2; });
  for (const auto& story : stories) {
    EXPECT_EQ(story.stepped, std::vector<bool>(4, false)) << "one of the two is always infinite";
    EXPECT_EQ(story.scales, (std::vector<double>{512, 256, 128, 64}));
  }
}

TEST(GradScalerRanksTest, BothGiveUpAtTheSmallestScale) {
  const auto errors = run_world_catching(kWorld, [&](Communicator& comm) {
    nn::Linear layer(3, 2);
    optim::Sgd optimizer({{layer.named_parameters(), 0.01, 0.0}});
    amp::GradScaler scaler({.initial_scale = 1.0});
    scaler.set_verdict([&](bool here) {
      std::array<std::uint8_t, 1> any{here};
      comm.all_reduce(std::span(any), ReduceOp::max);
      return any[0] != 0;
    });
    scaler.scaled(ops::sum(layer.forward(input(0, 0, comm.rank() == 1)))).backward();
    scaler.step(optimizer);
    scaler.update();
  });
  EXPECT_NE(message_of(errors[1]).find("those of weight"), std::string::npos)
      << message_of(errors[1]);
  EXPECT_NE(message_of(errors[0]).find("another rank"), std::string::npos) << message_of(errors[0]);
}

}  // namespace
}  // namespace weft
