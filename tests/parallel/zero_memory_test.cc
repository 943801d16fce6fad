// What a rank holds under each stage, counted, against the papers' formulas and against what
// memory_plan.h predicts.
#include <gtest/gtest.h>

#include "tensor/nn/gpt_memory.h"
#include "tensor/parallel/memory_plan.h"
#include "tests/parallel/zero_world.h"

namespace weft::parallel {
namespace {

using namespace parallel::tests;  // NOLINT: the model under test
using amp::Precision;

nn::GPTConfig wide_gpt() {
  auto config = tiny_gpt();
  config.n_embd = 64;
  config.vocab_size = 500;
  return config;
}

struct Held {
  ZeroBytes zero;
  Bytes optimizer;  // of the rank that has most
  Elems parameters;
};

Held held_by(Communicator& comm, int stage, const amp::Policy& policy) {
  nn::GPT model(wide_gpt());
  model.to(policy.parameters);
  Zero zero(model, comm, {.stage = stage, .low = policy.compute});
  optim::AdamW optimizer(optim::decay_groups(model.named_parameters(), 1e-3, 0.1));
  for (int step = 0; step < 2; ++step) {
    backward_of_step({}, model, zero, comm, step);
    optimizer.step();
    if (step == 0) optimizer.zero_grad();
  }
  std::int64_t state = optimizer.state_bytes().value + zero.bytes().masters.value;
  comm.all_reduce(std::span(&state, 1), ReduceOp::max);
  return {zero.bytes(), Bytes(state), Elems(model.parameter_count())};
}

struct Setting {
  int stage;
  int ranks;
  Precision precision;
};
void PrintTo(const Setting& setting, std::ostream* out) {
  *out << "stage " << setting.stage << ", " << setting.ranks << " ranks, "
       << amp::name_of(setting.precision);
}

class ZeroMemory : public testing::TestWithParam<Setting> {};

std::vector<Setting> settings() {
  std::vector<Setting> all;
  for (const int stage : {1, 2, 3}) {
    for (const int ranks : {1, 2, 4, 8}) {
      for (const auto precision : {Precision::true_32, Precision::true_bf16}) {
        all.push_back({stage, ranks, precision});
      }
      if (ranks > 1) all.push_back({stage, ranks, Precision::mixed_bf16});
    }
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(All, ZeroMemory, testing::ValuesIn(settings()));

// Halves with Adam, as in the paper: 4P + 12P/N, 2P + 14P/N, 16P/N. f32: 8P + 8P/N, 4P + 12P/N,
// 16P/N.
double formula(const Setting& setting, double p) {
  const bool half = setting.precision != Precision::true_32;
  const double whole = setting.stage == 3 ? 0 : (half ? 2 : 4) * (setting.stage == 1 ? 2 : 1);
  return whole * p + (16 - whole) * p / setting.ranks;
}

TEST_P(ZeroMemory, IsWithinATenthOfTheFormulaAndOfThePlan) {
  const auto setting = GetParam();
  run_world(setting.ranks, [&](Communicator& comm) {
    const auto held = held_by(comm, setting.stage, amp::policy_of(setting.precision));
    const auto state = (held.zero.parameters + held.zero.gradients + held.optimizer).value;
    const double expected = formula(setting, static_cast<double>(held.parameters.value));
    EXPECT_NEAR(static_cast<double>(state), expected, 0.1 * expected);
    EXPECT_EQ(held.zero.gathered.value, 0) << "between steps";
    EXPECT_EQ(held.zero.in_flight.value, 0) << "between steps";

    const char* names[] = {"deepspeed_stage_1", "deepspeed_stage_2", "deepspeed_stage_3"};
    MemoryPlanInput input;
    input.units = nn::gpt_units(wide_gpt());
    input.precision = setting.precision;
    input.ranks = setting.ranks;
    const auto plan = plan_memory(parse_strategy(names[setting.stage - 1]).value(), input);
    const auto near = [](Bytes found, Bytes planned) {
      EXPECT_NEAR(static_cast<double>(found.value), static_cast<double>(planned.value),
                  0.1 * static_cast<double>(planned.value));
    };
    near(held.zero.parameters, plan.parameters);
    near(held.zero.gradients, plan.gradients);
    near(held.optimizer, plan.optimizer);
    near(held.zero.reserved, plan.gathered);
    EXPECT_LE(held.zero.gathered_peak + held.zero.in_flight_peak, held.zero.reserved);
    EXPECT_EQ(held.zero.gathered_peak.value > 0, setting.stage == 3 && setting.ranks > 1);
  });
}

TEST(ZeroMemoryTest, MicroBatchesThatAddUpAreWhole) {
  run_world(2, [](Communicator& comm) {
    for (const int stage : {2, 3}) {
      nn::GPT model(wide_gpt());
      Zero zero(model, comm, {.stage = stage});
      backward_of_step({.accumulate = 2}, model, zero, comm, 0);
      const auto whole = Bytes(model.parameter_count() * 4);
      EXPECT_EQ(zero.bytes().accumulated_peak, whole);
      EXPECT_EQ(zero.bytes().accumulated, Bytes(0)) << "they became averages";
    }
  });
}

}  // namespace
}  // namespace weft::parallel
