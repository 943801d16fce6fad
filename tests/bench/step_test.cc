// weft step as its users run it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/scratch.h"
#include "tests/support/shell.h"

namespace weft {
namespace {

using testing::HasSubstr;
using tests::binary;
using tests::shell;

const std::string kSmall =
    " --n_layer 2 --n_head 2 --n_embd 32 --vocab_size 64 --block_size 16 --batch_size 2 --warmup 1"
    " --peak 0.5 --accelerator cpu ";

TEST(StepTest, TellsTokensAndUtilisation) {
  const std::string file = tests::scratch("step_test.json");
  for (const std::string precision : {"32-true", "bf16-mixed"}) {
    const auto ran = shell(binary("weft") + " step --devices 2 --steps 30 --precision " +
                           precision + kSmall + "--json " + file);
    ASSERT_EQ(ran.exit_code, 0) << ran.output;
    EXPECT_THAT(ran.output, HasSubstr("2 x 16 tokens a rank, 2 ranks on cpu, " + precision));
    const auto json = nlohmann::json::parse(std::ifstream(file));
    EXPECT_EQ(json.at("ranks"), 2);
    const double step = json.at("step_ms");
    const double tokens = json.at("tokens_per_s");
    EXPECT_NEAR(tokens * step / 1000, 64, 0.01);
    EXPECT_NEAR(json.at("peak_tflops"), 1.0, 1e-9);
    EXPECT_GT(json.at("mfu"), 0.0);
    EXPECT_LT(json.at("last_loss"), 4.17);  // ln 64 = 4.16, and it has learnt a little
    std::remove(file.c_str());
  }
}

TEST(StepTest, BadOptionsAreNamed) {
  const auto run = [](const std::string& options) {
    return shell(binary("weft") + " step" + kSmall + options);
  };
  EXPECT_EQ(run("--steps 0").exit_code, 2);
  const auto heads =
      shell(binary("weft") + " step --accelerator cpu --n_head 3 --n_embd 32 --n_layer 1");
  EXPECT_EQ(heads.exit_code, 1);
  EXPECT_THAT(heads.output, HasSubstr("n_head"));
  const auto file = run("--steps 1 --json /nowhere/step.json");
  EXPECT_EQ(file.exit_code, 1);
  EXPECT_THAT(file.output, HasSubstr("/nowhere/step.json"));
}

}  // namespace
}  // namespace weft
