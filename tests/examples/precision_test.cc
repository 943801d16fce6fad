// --precision, from the command line to what two ranks compute.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "tests/examples/train_gpt_fixture.h"
#include "tests/support/shell.h"

namespace weft {
namespace {

using testing::HasSubstr;
using testing::Not;
using tests::binary;
using tests::kExitError;
using tests::kExitUsage;
using tests::shell;

using PrecisionCommandTest = tests::TrainGptTest;

TEST_F(PrecisionCommandTest, EveryNameTrainsTwoRanks) {
  const std::string options = "--devices 2 --learning_rate 1e-2 --max_iters 40 --eval_interval 40 ";
  std::map<std::string, std::vector<double>> curves;
  for (const std::string name :
       {"32-true", "64-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true"}) {
    const auto ran =
        shell(train(options + "--precision " + name + " --log_json " + path(name + ".json")));
    ASSERT_EQ(ran.exit_code, 0) << name << ": " << ran.output;
    EXPECT_EQ(ran.output.find("warning") != std::string::npos, name == "16-mixed") << ran.output;
    curves[name] = losses(name + ".json");
  }
  const auto& plain = curves["32-true"];
  ASSERT_EQ(plain.size(), 40u);
  EXPECT_LT(plain.back(), 0.7 * plain.front());
  for (const auto& [name, curve] : curves) {
    ASSERT_EQ(curve.size(), plain.size()) << name;
    EXPECT_NEAR(curve.front(), plain.front(), 0.01 * plain.front()) << name;
    EXPECT_NEAR(curve.back(), plain.back(), 0.05 * plain.front()) << name;
    EXPECT_EQ(curve == plain, name == "32-true") << name << " changed nothing";
  }
  EXPECT_EQ(curves["16-mixed"], curves["bf16-mixed"]) << "on the CPU they are one";
}

TEST_F(PrecisionCommandTest, AliasesAreTheNamesThatTheyStandFor) {
  for (const auto& [alias, name] : std::map<std::string, std::string>{
           {"32", "32-true"}, {"64", "64-true"}, {"16", "16-mixed"}, {"bf16", "bf16-mixed"}}) {
    const std::string options = "--max_iters 3 --sample_tokens 0 --precision ";
    ASSERT_EQ(shell(train(options + alias + " --log_json " + path("alias.json"))).exit_code, 0);
    ASSERT_EQ(shell(train(options + name + " --log_json " + path("name.json"))).exit_code, 0);
    EXPECT_EQ(losses("alias.json"), losses("name.json")) << alias;
  }
}

TEST_F(PrecisionCommandTest, WeftRunGivesItAndConflictsAreNamed) {
  const auto run = [&](const std::string& outside, const std::string& inside) {
    return shell(binary("weft") + " run --devices=2 --precision=" + outside + " " +
                 train("--max_iters 3 --sample_tokens 0 " + inside));
  };
  const auto outside = run("bf16-mixed", "--log_json " + path("outside.json"));
  ASSERT_EQ(outside.exit_code, 0) << outside.output;
  const auto inside =
      shell(train("--max_iters 3 --sample_tokens 0 --devices 2 --precision bf16 --log_json " +
                  path("inside.json")));
  ASSERT_EQ(inside.exit_code, 0) << inside.output;
  EXPECT_EQ(losses("outside.json"), losses("inside.json"));
  EXPECT_EQ(run("bf16", "--precision bf16-mixed").exit_code, 0) << "they agree";
  const auto conflict = run("bf16-mixed", "--precision 16-true");
  EXPECT_EQ(conflict.exit_code, kExitError) << conflict.output;
  EXPECT_THAT(conflict.output, HasSubstr("conflicts with the value bf16-mixed"));
}

TEST_F(PrecisionCommandTest, BadNamesExitWithTheChoices) {
  for (const std::string bad : {"8", "fp16", "bf16-MIXED", "\"\""}) {
    const auto ran = shell(train("--precision " + bad));
    EXPECT_EQ(ran.exit_code, kExitUsage) << bad << ": " << ran.output;
    EXPECT_THAT(ran.output, HasSubstr("bf16-mixed")) << bad;
    EXPECT_EQ(shell(binary("train_mlp") + " --precision " + bad).exit_code, kExitUsage) << bad;
    const auto run = shell(binary("weft") + " run --precision=" + bad + " true");
    EXPECT_EQ(run.exit_code, kExitUsage) << bad << ": " << run.output;
    EXPECT_THAT(run.output, HasSubstr("bf16-mixed")) << bad;
  }
}

TEST_F(PrecisionCommandTest, AResumedRunGoesOnWithTheSameBits) {
  for (const std::string precision : {"bf16-mixed", "bf16-true", "16-true", "64-true"}) {
    SCOPED_TRACE(precision);
    const auto common = "--devices 2 --dropout 0.1 --lr_decay_iters 20 --sample_tokens 0 " +
                        ("--precision " + precision) + " ";
    const auto whole = train(common + "--log_json " + path("whole.json") + " --out_dir " +
                             path("whole-" + precision));
    ASSERT_EQ(shell(whole).exit_code, 0);
    const auto half = train(common + "--out_dir " + path("half-" + precision));
    ASSERT_EQ(shell(half + " --max_iters 10 --log_json " + path("a.json")).exit_code, 0);
    ASSERT_EQ(shell(half + " --init_from resume --log_json " + path("b.json")).exit_code, 0);
    auto joined = losses("a.json");
    for (const double loss : losses("b.json")) joined.push_back(loss);
    EXPECT_EQ(joined, losses("whole.json"));
  }
}

TEST_F(PrecisionCommandTest, ACheckpointOfOnePrecisionGoesOnInAnother) {
  for (const auto& [before, after] : std::map<std::string, std::string>{
           {"32-true", "bf16-mixed"}, {"bf16-true", "32-true"}, {"64-true", "bf16-true"}}) {
    SCOPED_TRACE(before + " to " + after);
    const auto options = "--lr_decay_iters 20 --sample_tokens 0 --out_dir " + path(before) + " ";
    const auto log = [&](const char* name) { return " --log_json " + path(name); };
    ASSERT_EQ(
        shell(train(options + "--max_iters 10 --precision " + before + log("a.json"))).exit_code,
        0);
    const auto second =
        shell(train(options + "--init_from resume --precision " + after + log("b.json")));
    ASSERT_EQ(second.exit_code, 0) << second.output;
    const auto a = losses("a.json"), b = losses("b.json");
    ASSERT_EQ(b.size(), 10u);
    EXPECT_LT(b.front(), a.front()) << "it does not start anew";
  }
}

TEST(TrainMlpPrecisionTest, LearnsInEveryPrecision) {
  for (const std::string precision : {"bf16-mixed", "16-true", "bf16-true", "64-true"}) {
    for (const std::string model : {"mlp", "conv"}) {
      const auto ran = shell(binary("train_mlp") + " --devices 2 --epochs 2 --batch_size 50 " +
                             "--precision " + precision + " --model " + model);
      ASSERT_EQ(ran.exit_code, 0) << precision << ": " << ran.output;
      const auto last = ran.output.rfind("accuracy ");
      ASSERT_NE(last, std::string::npos) << ran.output;
      EXPECT_GT(std::stod(ran.output.substr(last + 9)), 75.0) << precision << ": " << ran.output;
    }
  }
}

}  // namespace
}  // namespace weft
