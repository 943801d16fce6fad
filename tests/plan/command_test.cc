// weft plan as its users run it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/scratch.h"
#include "tests/support/shell.h"

namespace weft {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using tests::binary;
using tests::shell;

constexpr std::int64_t kGpt2 = 124'439'808;

std::string plan(const std::string& options) { return binary("weft") + " plan " + options; }

json planned(const std::string& options) {
  const tests::ScratchDirectory dir;
  const auto path = (dir / "plan.json").string();
  const auto ran = shell(plan(options + " --json " + path));
  EXPECT_EQ(ran.exit_code, 0) << options << ": " << ran.output;
  std::ifstream file(path);
  return json::parse(file, nullptr, false);
}

TEST(PlanCommand, Gpt2InTheStagesOfThePaper) {
  for (const std::int64_t n : {1, 2, 4, 8}) {
    const auto state = [&](const std::string& strategy, const std::string& precision) {
      const auto use = planned("--strategy " + strategy + " --precision " + precision +
                               " --ranks " + std::to_string(n) + " --batch_size 1")["memory_bytes"];
      return use["parameters"].get<double>() + use["gradients"].get<double>() +
             use["optimizer"].get<double>();
    };
    const double p = kGpt2, shares = static_cast<double>(n);
    EXPECT_NEAR(state("ddp", "bf16-true"), 16 * p, 16);
    EXPECT_NEAR(state("deepspeed_stage_1", "bf16-true"), 4 * p + 12 * p / shares, 16);
    EXPECT_NEAR(state("deepspeed_stage_2", "16-true"), 2 * p + 14 * p / shares, 16);
    EXPECT_NEAR(state("fsdp", "bf16-true"), 16 * p / shares, 16);
    EXPECT_NEAR(state("deepspeed_stage_2", "bf16-mixed"), 2 * p + 14 * p / shares, 16);
  }
}

TEST(PlanCommand, TellsTrafficAndItsTimeOnANetwork) {
  const auto ddp = planned("--ranks 2 --batch_size 1 --network " WEFT_SOURCE_DIR
                           "/examples/networks/gigabit_namespaces.json");
  EXPECT_EQ(ddp["traffic"]["elements"], 2 * kGpt2);
  EXPECT_NEAR(ddp["traffic"]["sent_by_rank_bytes"].get<double>(), 4.0 * kGpt2, 4);
  // 498 MB each way over 1 Gbit/s: 4.0 s and what headers cost.
  EXPECT_GT(ddp["traffic"]["time_us"].get<double>(), 3.9e6);
  EXPECT_LT(ddp["traffic"]["time_us"].get<double>(), 5.5e6);
  const auto fsdp = planned("--ranks 2 --strategy fsdp --batch_size 1 --network " WEFT_SOURCE_DIR
                            "/examples/networks/gigabit_namespaces.json");
  EXPECT_EQ(fsdp["traffic"]["elements"], 3 * kGpt2);
  const double ratio =
      fsdp["traffic"]["time_us"].get<double>() / ddp["traffic"]["time_us"].get<double>();
  EXPECT_NEAR(ratio, 1.5, 0.15) << "three halves of the volume";
  EXPECT_EQ(planned("--ranks 1 --batch_size 1")["traffic"]["elements"], 0);
}

TEST(PlanCommand, SaysWhatFits) {
  const auto tight = planned("--ranks 8 --batch_size 1 --memory 1600M");
  EXPECT_EQ(tight["fits"], false);
  const auto names = tight["strategies_that_fit"];
  EXPECT_NE(std::find(names.begin(), names.end(), "deepspeed_stage_3_offload"), names.end());
  EXPECT_EQ(std::find(names.begin(), names.end(), "ddp"), names.end());
  EXPECT_EQ(planned("--ranks 8 --batch_size 1 --memory 80G")["fits"], true);
  const auto ran = shell(plan("--ranks 8 --batch_size 1 --memory 1600M"));
  EXPECT_THAT(ran.output, HasSubstr("does not fit"));
  EXPECT_THAT(ran.output, HasSubstr("strategies that fit"));
  EXPECT_THAT(shell(plan("--memory 1M")).output, HasSubstr("strategies that fit  none"));
}

TEST(PlanCommand, ACountWithoutAShapeLeavesActivationsOut) {
  const auto counted = planned("--params 1.5B --ranks 4 --strategy deepspeed_stage_3 --n_layer 48");
  EXPECT_EQ(counted["parameters"], 1'500'000'000);
  EXPECT_TRUE(counted["memory_bytes"]["activations"].is_null());
  EXPECT_EQ(counted["memory_bytes"]["parameters"], 1'500'000'000);  // 4 bytes, 4 ranks
  EXPECT_EQ(counted["memory_bytes"]["gathered"], 1'500'000'000 / 48 * 2 * 8);
  EXPECT_THAT(shell(plan("--params 124M")).output, HasSubstr("unknown"));
  EXPECT_EQ(planned("--params 7e3")["parameters"], 7000);
}

TEST(PlanCommand, ShapesAreNamedOrGiven) {
  EXPECT_EQ(planned("--model gpt2-xl --batch_size 1")["parameters"], 1'557'611'200);
  const auto small =
      planned("--n_layer 4 --n_head 4 --n_embd 128 --block_size 64 --vocab_size 96 --ranks 2");
  EXPECT_EQ(small["parameters"], 4 * (12 * 128 * 128 + 13 * 128) + (96 + 64) * 128 + 2 * 128);
  EXPECT_GT(small["memory_bytes"]["activations"], 10'000'000);
}

TEST(PlanCommand, BadOptionsAreRefusedBeforeAnyWork) {
  const std::pair<const char*, const char*> cases[] = {
      {"--params 12X", "--params=12X"},
      {"--params 0", "--params=0"},
      {"--params nan", "--params=nan"},
      {"--params 1e300B", "--params=1e300B"},
      {"--params -5M", "--params=-5M"},
      {"--params 124M --model gpt2", "leave out --model"},
      {"--params 124M --n_embd 64", "leave out --model"},
      {"--params 10 --n_layer 11", "more layers"},
      {"--model gpt5", "gpt5"},
      {"--strategy zero", "zero"},
      {"--precision 8-true", "8-true"},
      {"--ranks 0", "--ranks"},
      {"--ranks 65537", "--ranks"},
      {"--n_head 7", "multiple of n_head"},
      {"--n_layer 1000000", "--n_layer"},
      {"--n_embd 268435456 --n_head 1 --n_layer 65536", "out of range"},
      {"--batch_size 0", "--batch_size"},
      {"--live-units 0", "--live-units"},
      {"--memory lots", "--memory"},
      {"--ranks 2 --network /nonexistent.json", "/nonexistent.json"},
      {"--nonsense", "--nonsense"},
  };
  for (const auto& [options, part] : cases) {
    const auto ran = shell(plan(options));
    EXPECT_EQ(ran.exit_code, 2) << options << ": " << ran.output;
    EXPECT_THAT(ran.output, HasSubstr(part)) << options;
  }
  EXPECT_EQ(shell(plan("--json /nonexistent/x.json")).exit_code, 1);
}

TEST(PlanCommand, ManyRanksOnHostsHaveATime) {
  const auto wide = planned("--ranks 256 --ranks-per-host 8 --strategy fsdp --batch_size 1");
  EXPECT_EQ(wide["traffic"]["elements"], 3 * kGpt2);
  EXPECT_GT(wide["traffic"]["time_us"].get<double>(), 0.0);
}

}  // namespace
}  // namespace weft
