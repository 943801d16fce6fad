// `weft run --accelerator=cuda` and Fabric over the emulator's devices (two, unless told
// otherwise).
#include <gmock/gmock.h>

#include "tests/examples/train_gpt_fixture.h"
#include "tests/support/shell.h"

namespace weft {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using tests::binary;
using tests::kExitUsage;
using tests::shell;

class CudaLaunchTest : public tests::TrainGptTest {
 protected:
  // A few steps of a very small model: the emulator runs every thread of every kernel.
  std::string tiny(const std::string& name) const {
    return tests::binary("train_gpt_emulated") + " --data " + path("text.txt") +
           " --n_layer 1 --n_head 2 --n_embd 16 --block_size 16 --batch_size 2 --max_iters 4" +
           " --eval_iters 1 --eval_interval 100 --warmup_iters 0 --sample_tokens 3 --out_dir " +
           path("out-" + name) + " --log_json " + path(name + ".json");
  }
  static std::string run(const std::string& options) {
    return binary("weft_emulated") + " run " + options + " ";
  }
};

TEST_F(CudaLaunchTest, TwoRanksTrainOnTwoDevicesAsOnTheCpu) {
  const auto here = shell(run("--accelerator=cpu --devices=2") + tiny("cpu"));
  ASSERT_EQ(here.exit_code, 0) << here.output;
  const auto there = shell(run("--accelerator=cuda --devices=2") + tiny("cuda"));
  ASSERT_EQ(there.exit_code, 0) << there.output;
  const auto wanted = losses("cpu.json"), found = losses("cuda.json");
  ASSERT_EQ(found.size(), 4u) << there.output;
  for (std::size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], wanted[i], 2e-3) << i;
}

TEST_F(CudaLaunchTest, StepsThatAreAGraphTrainTheSame) {
  const std::string more = " --max_iters 6 --gradient_accumulation_steps 2";
  for (const std::string precision : {"32-true", "16-mixed"}) {
    const std::string options = " --accelerator cuda --devices 2 --precision " + precision + more;
    const auto eager = shell(tiny("eager") + options);
    ASSERT_EQ(eager.exit_code, 0) << eager.output;
    const auto graphed = shell(tiny("graphed") + options + " --graph True");
    ASSERT_EQ(graphed.exit_code, 0) << graphed.output;
    const auto wanted = losses("eager.json"), found = losses("graphed.json");
    ASSERT_EQ(found.size(), 6u);
    for (std::size_t i = 0; i < 6; ++i) EXPECT_NEAR(found[i], wanted[i], 1e-4) << precision << i;
  }
  const auto on_cpu = shell(tiny("cpu") + " --accelerator cpu --graph True");
  EXPECT_EQ(on_cpu.exit_code, 1);
  EXPECT_THAT(on_cpu.output, HasSubstr("--accelerator=cuda"));
}

TEST_F(CudaLaunchTest, APlainProgramStartsItsRanksOnTheirDevices) {
  const auto ran = shell(tiny("plain") + " --accelerator cuda --devices 2");
  ASSERT_EQ(ran.exit_code, 0) << ran.output;
  EXPECT_EQ(losses("plain.json").size(), 4u);
}

TEST_F(CudaLaunchTest, RanksShareADeviceOnlyWhenTold) {
  const auto refused = shell(run("--accelerator=cuda --devices=0,0") + tiny("refused"));
  EXPECT_EQ(refused.exit_code, kExitUsage);
  EXPECT_THAT(refused.output,
              AllOf(HasSubstr("device 0 is named twice"), HasSubstr("--share-devices")));
  const auto shared =
      shell(run("--accelerator=cuda --devices=1,1 --share-devices") + tiny("shared"));
  ASSERT_EQ(shared.exit_code, 0) << shared.output;
  EXPECT_EQ(losses("shared.json").size(), 4u);
}

TEST_F(CudaLaunchTest, DevicesThatAreNotThereAreRefusedWithTheRemedy) {
  const auto beyond = shell(run("--accelerator=cuda --devices=0,5") + tiny("beyond"));
  EXPECT_EQ(beyond.exit_code, kExitUsage);
  EXPECT_THAT(beyond.output, AllOf(HasSubstr("no device 5"), HasSubstr("0 to 1")));
  const auto many = shell(run("--accelerator=cuda --devices=3") + tiny("many"));
  EXPECT_EQ(many.exit_code, kExitUsage);
  EXPECT_THAT(many.output, AllOf(HasSubstr("has 2 CUDA devices"), HasSubstr("--share-devices")));
  const auto none = shell("WEFT_EMULATED_DEVICES=0 " + run("--accelerator=cuda") + tiny("none"));
  EXPECT_EQ(none.exit_code, kExitUsage);
  EXPECT_THAT(none.output, AllOf(HasSubstr("no CUDA device is usable"), HasSubstr("cpu")));
}

}  // namespace
}  // namespace weft
