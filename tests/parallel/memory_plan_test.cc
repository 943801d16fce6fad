// The formulas of docs/plan.md, in numbers worked out by hand.
#include "tensor/parallel/memory_plan.h"

#include <gtest/gtest.h>

#include "kernels/base/error.h"

namespace weft::parallel {
namespace {

using amp::Precision;

constexpr std::int64_t kRoot = 1000, kBlock = 500, kBlocks = 6;
constexpr std::int64_t kP = kRoot + kBlocks * kBlock;  // 4000

MemoryPlanInput input(int ranks, Precision precision = Precision::true_32) {
  MemoryPlanInput in;
  in.units.assign(1 + kBlocks, Elems(kBlock));
  in.units[0] = Elems(kRoot);
  in.ranks = ranks;
  in.precision = precision;
  in.activations = Bytes(777);
  return in;
}

MemoryUse plan(const std::string& strategy, int ranks, Precision precision = Precision::true_32) {
  return plan_memory(parse_strategy(strategy).value(), input(ranks, precision));
}

TEST(MemoryPlanTest, StateFollowsThePapersFormulas) {
  for (const int n : {1, 2, 4, 8}) {
    // Halves with Adam: the paper's setting.
    for (const auto precision : {Precision::true_16, Precision::true_bf16}) {
      EXPECT_EQ(plan("ddp", n, precision).state().value, 16 * kP);
      EXPECT_EQ(plan("deepspeed_stage_1", n, precision).state().value, 4 * kP + 12 * kP / n);
      EXPECT_EQ(plan("deepspeed_stage_2", n, precision).state().value, 2 * kP + 14 * kP / n);
      EXPECT_EQ(plan("deepspeed_stage_3", n, precision).state().value, 16 * kP / n);
    }
    // f32 with Adam: no masters, but twice the rest. So are mixed precisions on one rank.
    for (const auto precision : {Precision::true_32, Precision::mixed_bf16, Precision::mixed_16}) {
      EXPECT_EQ(plan("ddp", n, precision).state().value, 16 * kP);
      if (precision != Precision::true_32 && n > 1) continue;
      EXPECT_EQ(plan("deepspeed_stage_1", n, precision).state().value, 8 * kP + 8 * kP / n);
      EXPECT_EQ(plan("deepspeed_stage_2", n, precision).state().value, 4 * kP + 12 * kP / n);
      EXPECT_EQ(plan("fsdp", n, precision).state().value, 16 * kP / n);
    }
    if (n > 1) {  // half parameters and gradients, shares in f32
      const auto bf16 = Precision::mixed_bf16, f16 = Precision::mixed_16;
      EXPECT_EQ(plan("deepspeed_stage_1", n, bf16).state().value, 4 * kP + 12 * kP / n);
      EXPECT_EQ(plan("deepspeed_stage_2", n, bf16).state().value, 2 * kP + 14 * kP / n);
      EXPECT_EQ(plan("fsdp", n, bf16).state().value, 16 * kP / n);
      EXPECT_EQ(plan("deepspeed_stage_1", n, f16).state().value, 4 * kP + 16 * kP / n);
      EXPECT_EQ(plan("deepspeed_stage_2", n, f16).state().value, 2 * kP + 16 * kP / n);
      EXPECT_EQ(plan("fsdp", n, f16).state().value, 18 * kP / n);
    }
    EXPECT_EQ(plan("ddp", n, Precision::true_64).state().value, 32 * kP);
    EXPECT_EQ(plan("deepspeed", n, Precision::true_64).state().value, 8 * kP + 24 * kP / n);
  }
}

TEST(MemoryPlanTest, LiveUnitsAreWholeAndTheRestIsNot) {
  const auto three = plan("fsdp", 4);
  EXPECT_EQ(three.gathered.value, (kRoot + 2 * kBlock) * (4 + 4)) << "parameters and gradients";
  EXPECT_EQ(plan("deepspeed_stage_2", 4).gathered.value, (kRoot + 2 * kBlock) * 4);
  EXPECT_EQ(plan("deepspeed_stage_1", 4).gathered, Bytes(0));
  EXPECT_EQ(plan("fsdp", 1).gathered, Bytes(0)) << "nothing to gather on one rank";
  auto in = input(4);
  in.live_units = 100;
  EXPECT_EQ(plan_memory(*parse_strategy("fsdp"), in).gathered.value,
            kP * 4 + (kRoot + 2 * kBlock) * 4)
      << "all parameters, gradients of two blocks";
  EXPECT_EQ(three.peak, three.state() + three.gathered + Bytes(777));
}

TEST(MemoryPlanTest, WhatMicroBatchesAddUpIsWhole) {
  auto in = input(4);
  in.accumulates = true;
  const auto more = [&](const char* name) {
    return plan_memory(*parse_strategy(name), in).peak - plan(name, 4).peak;
  };
  EXPECT_EQ(more("ddp"), Bytes(0));
  EXPECT_EQ(more("deepspeed_stage_1"), Bytes(0));
  EXPECT_EQ(more("deepspeed_stage_2").value, 4 * kP);
  EXPECT_EQ(more("fsdp").value, 4 * kP);
}

TEST(MemoryPlanTest, OnOneRankGradientsComeAndGo) {
  auto in = input(1);
  in.step_alone = Bytes(4 * kP + 90);
  const auto alone = plan_memory(*parse_strategy("ddp"), in);
  EXPECT_EQ(alone.gradients.value, 4 * kP);
  EXPECT_EQ(alone.activations, Bytes(90)) << "less than 777: they never meet";
  EXPECT_EQ(alone.peak.value, 16 * kP + 90);
  in.ranks = 2;
  EXPECT_EQ(plan_memory(*parse_strategy("ddp"), in).peak.value, 16 * kP + 777);
}

TEST(MemoryPlanTest, AnUnevenShareIsTheLargestRanks) {
  auto in = input(3);
  EXPECT_EQ(plan_memory(*parse_strategy("fsdp"), in).parameters.value, 1334 * 4);
}

TEST(MemoryPlanTest, OffloadMovesStateToTheHost) {
  const auto two = plan("deepspeed_stage_2_offload", 4, Precision::true_bf16);
  EXPECT_EQ(two.host.value, 12 * kP / 4);
  EXPECT_EQ(two.optimizer, Bytes(0));
  EXPECT_EQ(two.state().value, 2 * kP + 2 * kP / 4);
  const auto three = plan("deepspeed_stage_3_offload", 4, Precision::true_bf16);
  EXPECT_EQ(three.host.value, 14 * kP / 4);
  EXPECT_EQ(three.state().value, 2 * kP / 4) << "gradients";
}

TEST(MemoryPlanTest, TrafficIsTwoOrThreeTimesTheParameters) {
  for (const char* name :
       {"auto", "ddp", "dp", "ddp_find_unused_parameters_true", "deepspeed_stage_1",
        "deepspeed_stage_2", "deepspeed", "deepspeed_stage_2_offload"}) {
    const auto traffic = plan_traffic(*parse_strategy(name), input(4));
    EXPECT_EQ(traffic.elements.value, 2 * kP) << name;
    EXPECT_EQ(traffic.sent_by_rank.value, 2 * kP * 4 * 3 / 4) << name;
  }
  for (const char* name : {"fsdp", "deepspeed_stage_3", "deepspeed_stage_3_offload"}) {
    const auto traffic = plan_traffic(*parse_strategy(name), input(4, Precision::true_16));
    EXPECT_EQ(traffic.elements.value, 3 * kP) << name;
    EXPECT_EQ(traffic.sent_by_rank.value, 3 * kP * 2 * 3 / 4) << name;
  }
  EXPECT_EQ(plan_traffic(*parse_strategy("fsdp"), input(1)).elements, Elems(0));
}

// The collectives add up to the traffic: an all-reduce counts twice.
TEST(MemoryPlanTest, CollectivesAddUpToTheTraffic) {
  for (const auto& name : strategy_names()) {
    const auto strategy = *parse_strategy(name);
    auto in = input(4);
    in.units.assign(30, Elems(2'000'000));  // several buckets
    std::int64_t elements = 0;
    for (const auto& one : plan_collectives(strategy, in)) {
      const bool twice = one.kind == PlannedCollective::Kind::all_reduce;
      elements += one.bytes.value / 4 * one.times * (twice ? 2 : 1);
    }
    EXPECT_EQ(elements, plan_traffic(strategy, in).elements.value) << name;
    in.ranks = 1;
    EXPECT_TRUE(plan_collectives(strategy, in).empty());
  }
}

TEST(MemoryPlanTest, RefusesWhatMakesNoSense) {
  const auto ddp = *parse_strategy("ddp");
  EXPECT_THROW(plan_memory(ddp, {}), InvalidArgument);
  auto in = input(0);
  EXPECT_THROW(plan_memory(ddp, in), InvalidArgument);
  in = input(2);
  in.live_units = 0;
  EXPECT_THROW(plan_traffic(ddp, in), InvalidArgument);
  in = input(2);
  in.units = {Elems(std::int64_t{1} << 52), Elems((std::int64_t{1} << 52) + 1)};
  EXPECT_THROW(plan_collectives(ddp, in), InvalidArgument);
  EXPECT_FALSE(parse_strategy("zero"));
  EXPECT_FALSE(parse_strategy(""));
}

}  // namespace
}  // namespace weft::parallel
