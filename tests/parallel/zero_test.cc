#include "tensor/parallel/zero.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tensor/autograd/node.h"
#include "tensor/nn/layers.h"
#include "tensor/optim/clip.h"
#include "tensor/part.h"
#include "tests/parallel/zero_world.h"

namespace weft::parallel {
namespace {

using namespace parallel::tests;  // NOLINT: the model under test
using testing::HasSubstr;

std::size_t different(const std::vector<double>& a, const std::vector<double>& b) {
  EXPECT_EQ(a.size(), b.size());
  std::size_t count = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) count += a[i] != b[i];
  return count;
}

class ZeroEqualsDdp : public testing::TestWithParam<std::tuple<int, int, int>> {};

TEST_P(ZeroEqualsDdp, BitByBitAfterFiftySteps) {
  const auto [stage, world, accumulate] = GetParam();
  const auto ddp = train(world, {.stage = 0, .accumulate = accumulate});
  const auto zero = train(world, {.stage = stage, .accumulate = accumulate});
  for (int r = 0; r < world; ++r) {
    EXPECT_EQ(different(zero[static_cast<std::size_t>(r)], ddp[0]), 0u) << "rank " << r;
  }
}

INSTANTIATE_TEST_SUITE_P(Stages, ZeroEqualsDdp,
                         testing::Combine(testing::Values(1, 2, 3), testing::Values(1, 2, 3, 4),
                                          testing::Values(1, 2)));

class ZeroStages : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(All, ZeroStages, testing::Values(1, 2, 3));

TEST_P(ZeroStages, UnitsAndFetchingAheadChangeNoBit) {
  const auto plain = train(3, {.stage = GetParam(), .steps = 10});
  ZeroOptions narrow{.units = {"transformer.h.1", "transformer.ln_f"}, .live_units = 1};
  EXPECT_EQ(different(train(3, {.stage = GetParam(), .steps = 10, .zero = narrow})[2], plain[0]),
            0u);
  ZeroOptions wide{.live_units = 3};
  EXPECT_EQ(different(train(3, {.stage = GetParam(), .steps = 10, .zero = wide})[1], plain[0]), 0u);
}

// Averages of each micro-batch, added up, differ from the average of their sum by roundings.
TEST_P(ZeroStages, AveragesAddUpWithoutNoSync) {
  const Plan quiet{.stage = GetParam(), .steps = 5, .accumulate = 3, .dtype = DType::f64};
  Plan loud = quiet;
  loud.no_sync = false;
  const auto a = train(2, quiet)[0], b = train(2, loud)[1];
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  EXPECT_LT(largest, 1e-9);
}

TEST_P(ZeroStages, HalfParametersHaveTheBitsOfDdp) {
  const Plan ddp{.stage = 0, .steps = 10, .dtype = DType::bf16};
  Plan zero = ddp;
  zero.stage = GetParam();
  EXPECT_EQ(different(train(2, zero)[1], train(2, ddp)[0]), 0u);
}

TEST_P(ZeroStages, ClippingIsByTheNormOfAllShares) {
  run_world(3, [&](Communicator& comm) {
    Generator one(3), two(3);
    nn::GPT model(tiny_gpt(), &one), whole(tiny_gpt(), &two);
    Zero zero(model, comm, {.stage = GetParam()});
    Ddp ddp(whole.named_parameters(), {}, comm);
    const Plan plan{.steps = 1};
    backward_of_step(plan, model, zero, comm, 0);
    backward_of_step(plan, whole, ddp, comm, 0);
    const double norm = optim::clip_grad_norm_(whole.parameters(), 0.05);
    EXPECT_GT(norm, 0.05);
    EXPECT_NEAR(zero.clip_grad_norm(0.05), norm, 1e-12 * norm);
    EXPECT_NEAR(zero.grad_norm(), 0.05, 1e-6);
    zero.clip_grad_value(1e-4);
    for (const auto& p : model.parameters()) {
      EXPECT_FALSE(p.grad().defined());
      for (const float g : tensor::part_of(p)->values.grad().to_vector<float>()) {
        EXPECT_LE(std::abs(g), 1.0001e-4f);
      }
    }
    EXPECT_THAT(message_of([&] {
                  try {
                    optim::grad_norm(model.parameters());
                  } catch (...) {
                    return std::current_exception();
                  }
                  return std::exception_ptr();
                }()),
                HasSubstr("spread over the ranks"));
  });
}

// Of a step: 2P elements in stages 1 and 2 (gradients scattered, parameters gathered), 3P in 3
// (gathered twice). A rank moves all of them but its own share.
TEST_P(ZeroStages, TrafficOfAStepIsTwoOrThreeTimesTheParameters) {
  run_world(4, [&](Communicator& comm) {
    auto config = tiny_gpt();  // large enough for buffers to be read where they are
    config.n_embd = 128;
    config.vocab_size = 500;
    nn::GPT model(config);
    Zero zero(model, comm, {.stage = GetParam()});
    optim::AdamW optimizer(optim::decay_groups(model.named_parameters(), 1e-3, 0.1));
    const auto step = [&](int index) {
      backward_of_step({}, model, zero, comm, index);
      optimizer.step();
      optimizer.zero_grad();
    };
    for (int i = 0; i < 3; ++i) step(i);
    const auto before = comm.traffic();
    for (int i = 0; i < 2; ++i) step(i);
    const auto after = comm.traffic();
    const auto moved = static_cast<std::int64_t>(after.bytes_sent + after.bytes_received -
                                                 before.bytes_sent - before.bytes_received);
    // All flat runs, lines' ends included.
    const auto held = zero.bytes().parameters.value;
    const std::int64_t flat = GetParam() == 3 ? held * comm.size() : held;
    EXPECT_LT(flat, 4 * model.parameter_count() * 11 / 10);
    const int times = GetParam() == 3 ? 3 : 2;
    EXPECT_EQ(moved, 2 * times * flat * 3 / 4) << "rank " << comm.rank();
  });
}

// The module's own unit, and two more at a time.
TEST(ZeroTest, NoMoreUnitsLiveThanAreAllowed) {
  run_world(2, [](Communicator& comm) {
    auto config = tiny_gpt();
    config.n_layer = 6;
    nn::GPT model(config);
    const auto block = static_cast<std::int64_t>(12 * 12 * 12 + 13 * 12) * 4;
    Zero zero(model, comm, {.stage = 3, .live_units = 2});
    for (int step = 0; step < 3; ++step) backward_of_step({}, model, zero, comm, step);
    const std::int64_t own = (37 + 8 + 2) * 12 * 4;
    EXPECT_GT(zero.bytes().gathered_peak.value, own + 2 * block - 1);
    EXPECT_LT(zero.bytes().gathered_peak.value, own + 3 * block);
  });
}

TEST(ZeroTest, TheModulesOwnUnitHasTiedParametersAndBlocksAreUnits) {
  run_world(2, [](Communicator& comm) {
    nn::GPT model(tiny_gpt());
    const Zero zero(model, comm, {.stage = 3});
    const auto layout = zero.unit_layout();
    ASSERT_EQ(layout.size(), 4u);
    EXPECT_EQ(layout[0].front(), "transformer.wte.weight");
    EXPECT_EQ(layout[2].front(), "transformer.h.1.ln_1.weight");
  });
}

TEST_P(ZeroStages, FrozenParametersStayAsTheyWereAndAreSharedOutInStageThree) {
  run_world(2, [&](Communicator& comm) {
    Generator generator(5 + static_cast<std::uint64_t>(comm.rank()));
    nn::GPT model(tiny_gpt(), &generator);
    auto frozen = model.parameters()[4];
    frozen.set_requires_grad(false);
    const auto of_rank_zero = [&] {
      Generator same(5);
      return nn::GPT(tiny_gpt(), &same).parameters()[4].to_vector<float>();
    }();
    Zero zero(model, comm, {.stage = GetParam()});
    optim::AdamW optimizer(optim::decay_groups(model.named_parameters(), 1e-2, 0.1));
    for (int step = 0; step < 3; ++step) {
      backward_of_step({}, model, zero, comm, step);
      optimizer.step();
      optimizer.zero_grad();
    }
    EXPECT_EQ(zero.bytes().replicated.value, GetParam() == 3 ? 0 : frozen.numel() * 4);
    const Zero::Gathered gathered(zero);
    EXPECT_EQ(frozen.to_vector<float>(), of_rank_zero);
  });
}

TEST(ZeroTest, AnOptimizerMadeBeforeKeepsItsPart) {
  const auto values = [](bool before) {
    std::vector<double> result;
    run_world(2, [&](Communicator& comm) {
      Generator generator(3);
      nn::GPT model(tiny_gpt(), &generator);
      std::unique_ptr<Zero> zero;
      if (!before) zero = std::make_unique<Zero>(model, comm, ZeroOptions{.stage = 3});
      optim::AdamW optimizer(optim::decay_groups(model.named_parameters(), 1e-2, 0.1));
      if (before) zero = std::make_unique<Zero>(model, comm, ZeroOptions{.stage = 3});
      for (int step = 0; step < 5; ++step) {
        backward_of_step({}, model, *zero, comm, step);
        optimizer.step();
        optimizer.zero_grad();
      }
      const auto all = values_of(model, *zero);
      if (comm.rank() == 0) result = all;
    });
    return result;
  };
  EXPECT_EQ(different(values(true), values(false)), 0u);
}

TEST(ZeroTest, WhatIsWrittenWhileGatheredIsKept) {
  run_world(3, [](Communicator& comm) {
    nn::GPT model(tiny_gpt());
    Zero zero(model, comm, {.stage = 3});
    {
      const Zero::Gathered gathered(zero, true);
      const NoGrad no_grad;
      for (const auto& p : model.parameters()) p.fill_(0.25);
    }
    for (const double v : values_of(model, zero)) ASSERT_EQ(v, 0.25);
  });
}

// --- what goes wrong, by name

void expect_errors(int world, const std::string& text,
                   const std::function<void(Communicator&)>& body) {
  for (const auto& error : run_world_catching(world, body)) {
    EXPECT_THAT(message_of(error), HasSubstr(text));
  }
}

TEST(ZeroErrorsTest, ParametersOutsideOfForward) {
  expect_errors(2, "not here", [](Communicator& comm) {
    nn::GPT model(tiny_gpt());
    const Zero zero(model, comm, {.stage = 3});
    model.parameters()[0].to_vector<float>();
  });
}

TEST(ZeroErrorsTest, OtherModelsAndOtherOptions) {
  expect_errors(2, "rank 1 has 'transformer.wte.weight (38, 12)", [](Communicator& comm) {
    auto config = tiny_gpt();
    config.vocab_size += comm.rank();
    nn::GPT model(config);
    const Zero zero(model, comm);
  });
  expect_errors(2, "ZeRO stage 2", [](Communicator& comm) {
    nn::GPT model(tiny_gpt());
    const Zero zero(model, comm, {.stage = 2 + comm.rank()});
  });
}

TEST(ZeroErrorsTest, UnitsThatCannotBe) {
  const auto with = [](std::vector<std::string> units) {
    return [units](Communicator& comm) {
      nn::GPT model(tiny_gpt());
      const Zero zero(model, comm, {.units = units});
    };
  };
  expect_errors(2, "no module 'transformer.h.9'", with({"transformer.h.9"}));
  expect_errors(2, "inside of each other", with({"transformer.h.1", "transformer.h.1.mlp"}));
  expect_errors(2, "have one dtype", [](Communicator& comm) {
    nn::Sequential model;
    model.add<nn::Sequential>().add<nn::Linear>(4, 4).to(DType::f64);
    static_cast<nn::Sequential*>(model.named_modules()[1].second)->add<nn::Linear>(4, 4);
    const Zero zero(model, comm);
  });
}

TEST_P(ZeroStages, BackwardOfTheLossItself) {
  expect_errors(2, GetParam() == 3 ? "outside of Zero::backward()" : "outside Zero::backward()",
                [&](Communicator& comm) {
                  nn::GPT model(tiny_gpt());
                  const Zero zero(model, comm, {.stage = GetParam()});
                  const auto [tokens, targets] = token_batch(1);
                  model.forward(tokens, targets).loss.backward();
                });
}

TEST_P(ZeroStages, ParametersThatTakeNoPart) {
  expect_errors(
      2, "2 of 4 parameters took no part in backward: 1.weight, 1.bias", [&](Communicator& comm) {
        nn::Sequential model;
        model.add<nn::Linear>(4, 4);
        model.add<nn::LayerNorm>(4);
        Zero zero(model, comm, {.stage = GetParam()});
        const auto x = Tensor::full({2, 4}, 1.0);
        const auto y = static_cast<nn::Layer*>(model.named_modules()[1].second)->forward(x);
        zero.backward(tensor::ops::sum(y));
      });
}

}  // namespace
}  // namespace weft::parallel
