// Programs that train on CUDA, over the emulator's devices: weft step and train_mlp, graphs and
// TF32.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/scratch.h"
#include "tests/support/shell.h"

namespace weft {
namespace {

using testing::HasSubstr;
using tests::binary;
using tests::shell;

const std::string kTiny =
    " --n_layer 1 --n_head 2 --n_embd 16 --vocab_size 32 --block_size 8 --batch_size 2"
    " --peak 0.5 ";

class CudaStepTest : public testing::Test {
 protected:
  nlohmann::json step(const std::string& options) const {
    const std::string file = folder_ / "step.json";
    const auto ran =
        shell(binary("weft_step_emulated") + kTiny + "--steps 4 " + options + " --json " + file);
    EXPECT_EQ(ran.exit_code, 0) << ran.output;
    said_ = ran.output;
    return ran.exit_code == 0 ? nlohmann::json::parse(std::ifstream(file)) : nlohmann::json();
  }
  const tests::ScratchDirectory folder_;
  mutable std::string said_;
};

TEST_F(CudaStepTest, TrainsAsTheCpuDoesWithAGraphAndWithout) {
  const double wanted = step("--accelerator cpu --warmup 3").at("last_loss");
  for (const std::string how :
       {"--warmup 3", "--warmup 1 --graph"}) {  // three steps come before a graph
    const auto json = step("--accelerator cuda " + how);
    EXPECT_NE(json.at("device"), "cpu");
    EXPECT_NEAR(json.at("last_loss"), wanted, 1e-3) << how;
    EXPECT_EQ(json.at("graph_launches"), how == "--warmup 3" ? 0 : 5);
  }
  EXPECT_THAT(said_, HasSubstr("launches of a graph"));
}

TEST_F(CudaStepTest, TwoRanksGraphTheirStepInEachPrecision) {
  for (const std::string precision : {"16-mixed", "bf16-mixed"}) {
    const std::string options =
        "--accelerator cuda --devices 2 --warmup 3 --precision " + precision;
    const auto eager = step(options);
    const auto graphed = step(options + " --graph");
    EXPECT_EQ(graphed.at("precision"), precision);
    EXPECT_EQ(graphed.at("ranks"), 2);
    EXPECT_EQ(graphed.at("graph_launches"), 5);
    EXPECT_NEAR(graphed.at("last_loss"), double(eager.at("last_loss")), 1e-3) << precision;
  }
}

TEST_F(CudaStepTest, Tf32IsAWish) {
  EXPECT_EQ(step("--accelerator cuda --warmup 1 --tf32").at("tf32"), true);
  EXPECT_EQ(step("--accelerator cuda --warmup 1").at("tf32"), false);
  EXPECT_EQ(step("--accelerator cpu --warmup 1 --tf32").at("tf32"), false);
  EXPECT_THAT(said_, HasSubstr("tf32 is for products on CUDA devices"));
}

TEST_F(CudaStepTest, BadWishesAreRefusedBeforeTheWork) {
  const auto graph = shell(binary("weft_step_emulated") + kTiny + "--accelerator cpu --graph");
  EXPECT_EQ(graph.exit_code, 1);
  EXPECT_THAT(graph.output, HasSubstr("--accelerator=cuda"));
  // Minutes of steps, were the file looked at in the end only.
  const auto file = shell(binary("weft_step_emulated") + kTiny +
                              "--accelerator cuda --steps 100000 --json /nowhere/step.json",
                          30);
  EXPECT_EQ(file.exit_code, 1);
  EXPECT_THAT(file.output, HasSubstr("--json /nowhere/step.json"));
}

TEST_F(CudaStepTest, TheClassifierTrainsOnADevice) {
  const auto ran = shell(binary("train_mlp_emulated") +
                         " --accelerator cuda --epochs 1 --hidden 8 --batch_size 500 --tf32");
  EXPECT_EQ(ran.exit_code, 0) << ran.output;
  EXPECT_THAT(ran.output, HasSubstr("epoch 1: loss"));
}

}  // namespace
}  // namespace weft
