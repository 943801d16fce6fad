#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "kernels/base/error.h"
#include "launcher/fabric_options.h"

namespace weft::launcher {
namespace {

using testing::HasSubstr;

// What `weft run` would have set, for the life of the object.
class CliValue {
 public:
  CliValue(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~CliValue() { unsetenv(name_); }
  CliValue(const CliValue&) = delete;
  CliValue& operator=(const CliValue&) = delete;

 private:
  const char* name_;
};

template <class E>
std::string message_of(const FabricOptions& options) {
  try {
    resolve(options);
  } catch (const E& error) {
    return error.what();
  }
  return "no such error";
}

TEST(FabricOptionsTest, DefaultsAreOneCpuRankInFullPrecision) {
  const auto settings = resolve({});
  EXPECT_EQ(settings.accelerator, "cpu");
  EXPECT_EQ(settings.strategy, "ddp");
  EXPECT_EQ(settings.devices, "1");
  EXPECT_EQ(settings.num_nodes, 1);
  EXPECT_EQ(settings.precision, "32-true");
  EXPECT_EQ(settings.policy.parameters, DType::f32);
  EXPECT_FALSE(settings.policy.compute || settings.grad_scaler);
}

TEST(FabricOptionsTest, WishesThatOnlyCudaHasAreWarnedOfOnTheCpu) {
  EXPECT_TRUE(resolve({}).warnings.empty());
  const auto tf32 = resolve({.accelerator = "cpu", .tf32 = true});
  EXPECT_FALSE(tf32.tf32);
  EXPECT_THAT(tf32.warnings, testing::ElementsAre(testing::HasSubstr("tf32 is for")));
  const auto shared = resolve({.accelerator = "cpu", .share_devices = true});
  EXPECT_THAT(shared.warnings, testing::ElementsAre(testing::HasSubstr("share_devices is for")));
}

TEST(FabricOptionsTest, AliasesAreResolved) {
  EXPECT_EQ(resolve({.precision = "64"}).precision, "64-true");
  EXPECT_EQ(resolve({.precision = "64"}).policy.parameters, DType::f64);
  EXPECT_EQ(resolve({.precision = "bf16"}).precision, "bf16-mixed");
  EXPECT_EQ(resolve({.strategy = "dp"}).strategy, "ddp");
}

TEST(FabricOptionsTest, TheCommandLineFillsWhatTheCodeLeavesOpen) {
  const CliValue strategy("WEFT_STRATEGY", "ddp_find_unused_parameters_true");
  const CliValue nodes("WEFT_NUM_NODES", "3");
  EXPECT_EQ(resolve({}).strategy, "ddp_find_unused_parameters_true");
  EXPECT_EQ(resolve({.num_nodes = 3}).num_nodes, 3);
}

TEST(FabricOptionsTest, CodeAndCommandLineInConflictNameBoth) {
  const CliValue devices("WEFT_DEVICES", "4");
  const auto message = message_of<InvalidArgument>({.devices = "2"});
  EXPECT_THAT(message, HasSubstr("devices=2"));
  EXPECT_THAT(message, HasSubstr("conflicts with the value 4"));
  const CliValue nodes("WEFT_NUM_NODES", "3");
  EXPECT_THAT(message_of<InvalidArgument>({.devices = "4", .num_nodes = 2}),
              HasSubstr("conflicts with the value 3"));
}

TEST(FabricOptionsTest, PrecisionsAgreeUnderAnyOfTheirNames) {
  const CliValue precision("WEFT_PRECISION", "bf16-mixed");
  EXPECT_EQ(resolve({}).precision, "bf16-mixed");
  EXPECT_EQ(resolve({.precision = "bf16"}).precision, "bf16-mixed");
  const auto message = message_of<InvalidArgument>({.precision = "16-true"});
  EXPECT_THAT(message, HasSubstr("precision=16-true"));
  EXPECT_THAT(message, HasSubstr("conflicts with the value bf16-mixed"));
}

TEST(FabricOptionsTest, OnlySixteenMixedScalesItsLoss) {
  EXPECT_EQ(resolve({.precision = "16"}).precision, "bf16-mixed");
  EXPECT_EQ(resolve({.precision = "16"}).warnings.size(), 1u);
  const auto settings = resolve({.precision = "16", .grad_scaler = {{.initial_scale = 8}}});
  EXPECT_EQ(settings.precision, "16-mixed");
  EXPECT_EQ(settings.policy.compute, DType::f16);
  EXPECT_EQ(settings.grad_scaler->initial_scale, 8);
  EXPECT_TRUE(settings.warnings.empty());
  const amp::GradScalerOptions scaler;
  EXPECT_THAT(message_of<InvalidArgument>({.precision = "bf16-mixed", .grad_scaler = scaler}),
              HasSubstr("only 16-mixed"));
}

TEST(FabricOptionsTest, NonsenseNamesTheChoices) {
  EXPECT_THAT(message_of<InvalidArgument>({.strategy = "dpp"}),
              HasSubstr("ddp_find_unused_parameters_true"));
  EXPECT_THAT(message_of<InvalidArgument>({.precision = "8"}), HasSubstr("bf16-mixed"));
  EXPECT_THAT(message_of<InvalidArgument>({.accelerator = "abacus"}), HasSubstr("cuda"));
  EXPECT_THAT(message_of<InvalidArgument>({.num_nodes = 0}), HasSubstr("at least 1"));
  EXPECT_THAT(message_of<InvalidArgument>({.grad_compression = "int4"}),
              HasSubstr("none, fp16, bf16, int8"));
  EXPECT_THAT(message_of<InvalidArgument>({.precision = ""}), HasSubstr("16, bf16, 32, 64"));
  const CliValue nodes("WEFT_NUM_NODES", "two");
  EXPECT_THAT(message_of<InvalidArgument>({}), HasSubstr("WEFT_NUM_NODES='two'"));
}

TEST(FabricOptionsTest, StrategiesSayTheStageOfZero) {
  EXPECT_FALSE(resolve({.strategy = "ddp"}).zero.has_value());
  EXPECT_EQ(resolve({.strategy = "deepspeed"}).zero->stage, 2);
  EXPECT_EQ(resolve({.strategy = "deepspeed_stage_1"}).zero->stage, 1);
  EXPECT_EQ(resolve({.strategy = "deepspeed_stage_2"}).zero->stage, 2);
  EXPECT_EQ(resolve({.strategy = "deepspeed_stage_3"}).zero->stage, 3);
  EXPECT_EQ(resolve({.strategy = "fsdp", .zero = {{.live_units = 4}}}).zero->live_units, 4);
  const auto offloaded = resolve({.strategy = "deepspeed_offload"});
  EXPECT_EQ(offloaded.zero->stage, 2);
  ASSERT_EQ(offloaded.warnings.size(), 1u);
  EXPECT_THAT(offloaded.warnings[0], HasSubstr("host memory already"));
  EXPECT_THAT(message_of<InvalidArgument>({.strategy = "ddp", .zero = {{.live_units = 4}}}),
              HasSubstr("strategy 'ddp'"));
}

TEST(FabricOptionsTest, WhatIsNotThereYetSaysSo) {
  EXPECT_THAT(message_of<Unsupported>({.strategy = "ddp_spawn"}), HasSubstr("'ddp'"));
  EXPECT_THAT(message_of<Unsupported>({.strategy = "fsdp", .grad_compression = "bf16"}),
              HasSubstr("grad_compression 'bf16'"));
  EXPECT_THAT(message_of<Unsupported>({.accelerator = "tpu"}), HasSubstr("accelerator='cpu'"));
}

}  // namespace
}  // namespace weft::launcher
