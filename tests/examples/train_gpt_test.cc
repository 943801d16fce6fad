// examples/train_gpt as its users run it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "tests/examples/train_gpt_fixture.h"
#include "tests/support/shell.h"

namespace weft {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;
using tests::binary;
using tests::kExitError;
using tests::kExitUsage;
using tests::shell;
using tests::TrainGptTest;

TEST_F(TrainGptTest, LearnsLogsSavesAndSamples) {
  const auto ran =
      shell(train("--max_iters 60 --learning_rate 1e-2 --log_json " + path("log.json")));
  ASSERT_EQ(ran.exit_code, 0) << ran.output;
  EXPECT_THAT(ran.output, HasSubstr("validation loss"));
  EXPECT_THAT(ran.output, HasSubstr("--- a sample:"));
  EXPECT_THAT(ran.output, Not(HasSubstr("\r"))) << "plain lines when piped";
  const auto curve = losses("log.json");
  ASSERT_EQ(curve.size(), 60u);
  EXPECT_LT(curve.back(), 0.6 * curve.front()) << ran.output;
  EXPECT_TRUE(fs::exists(folder_ / "out" / "step-60" / "model.safetensors"));

  std::ifstream in(path("log.json"));
  std::string line;
  std::getline(in, line);
  const auto first = nlohmann::json::parse(line);
  for (const char* key :
       {"iter", "loss", "lr", "tokens_per_s", "step_ms", "comm_ms", "exposed_comm_ms"}) {
    EXPECT_TRUE(first.contains(key)) << key;
  }
}

TEST_F(TrainGptTest, TwoRanksFollowOneRankWithTheDoubleBatch) {
  const auto one = shell(train("--batch_size 8 --log_json " + path("one.json")));
  ASSERT_EQ(one.exit_code, 0) << one.output;
  const auto two =
      shell(train("--devices 2 --log_json " + path("two.json") + " --out_dir " + path("out2")));
  ASSERT_EQ(two.exit_code, 0) << two.output;
  EXPECT_THAT(two.output, HasSubstr("2 ranks"));
  const auto a = losses("one.json"), b = losses("two.json");
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-3) << "iteration " << i;
}

TEST_F(TrainGptTest, UnderWeftRunItSeesTheSameWorld) {
  const auto plain = shell(train("--devices 2 --log_json " + path("plain.json")));
  ASSERT_EQ(plain.exit_code, 0) << plain.output;
  const auto run =
      shell(binary("weft") + " run --devices=2 " + train("--log_json " + path("run.json")));
  ASSERT_EQ(run.exit_code, 0) << run.output;
  EXPECT_EQ(losses("plain.json"), losses("run.json")) << "the same bits, however it was started";
}

TEST_F(TrainGptTest, ResumesWithTheSameBits) {
  ASSERT_EQ(
      shell(train("--dropout 0.1 --lr_decay_iters 20 --log_json " + path("whole.json"))).exit_code,
      0);
  const auto half = train("--dropout 0.1 --lr_decay_iters 20 --out_dir " + path("half"));
  const auto first = shell(half + " --max_iters 10 --log_json " + path("first.json"));
  ASSERT_EQ(first.exit_code, 0) << first.output;
  const auto second = shell(half + " --init_from resume --log_json " + path("second.json"));
  ASSERT_EQ(second.exit_code, 0) << second.output;
  EXPECT_THAT(second.output, HasSubstr("at iteration 10"));
  const auto third =
      shell(half + " --init_from resume --max_iters 24 --log_json " + path("second.json"));
  ASSERT_EQ(third.exit_code, 0) << third.output;
  EXPECT_EQ(losses("second.json").size(), 14u) << "the log goes on";
  EXPECT_THAT(shell(half + " --init_from resume --max_iters 24").output,
              HasSubstr("nothing to train"));
  auto joined = losses("first.json");
  for (const double loss : losses("second.json")) joined.push_back(loss);
  joined.resize(20);
  EXPECT_EQ(joined, losses("whole.json"));
}

TEST_F(TrainGptTest, StartsFromASafetensorsFile) {
  ASSERT_EQ(shell(train()).exit_code, 0);
  const auto file = path("out/step-20/model.safetensors");
  const auto ran = shell(train("--init_from " + file + " --eval_only true"));
  EXPECT_EQ(ran.exit_code, 0) << ran.output;
  EXPECT_THAT(ran.output, HasSubstr("2 layers, 2 heads, 32 wide, context 16"));
}

TEST_F(TrainGptTest, AccumulatesMicroBatches) {
  const auto ran =
      shell(train("--gradient_accumulation_steps 2 --batch_size 2 --log_json " + path("a.json")));
  ASSERT_EQ(ran.exit_code, 0) << ran.output;
  EXPECT_THAT(ran.output, HasSubstr("64 tokens a step"));
}

TEST_F(TrainGptTest, LearnsWithCompressedGradients) {
  const std::string options = "--max_iters 60 --learning_rate 1e-2 --devices 2 ";
  ASSERT_EQ(shell(train(options + "--log_json " + path("none.json"))).exit_code, 0);
  const auto plain = losses("none.json");
  for (const std::string compression : {"bf16", "fp16", "int8"}) {
    const auto ran = shell(train(options + "--grad_compression " + compression + " --log_json " +
                                 path(compression + ".json")));
    ASSERT_EQ(ran.exit_code, 0) << ran.output;
    const auto curve = losses(compression + ".json");
    ASSERT_EQ(curve.size(), plain.size());
    EXPECT_NE(curve, plain) << compression << " changed nothing";
    EXPECT_NEAR(curve.back(), plain.back(), 0.1 * plain.back()) << compression;
  }
}

TEST_F(TrainGptTest, BadOptionsExitWithTheChoices) {
  const auto tokenizer = shell(train("--tokenizer words"));
  EXPECT_EQ(tokenizer.exit_code, kExitUsage);
  EXPECT_THAT(tokenizer.output, HasSubstr("byte"));
  EXPECT_EQ(shell(train("--batch_size 0")).exit_code, kExitUsage);
  EXPECT_EQ(shell(train("--no_such_option 1")).exit_code, kExitUsage);
  EXPECT_EQ(shell(train("--lr_decay_iters 2")).exit_code, kExitUsage);
  EXPECT_EQ(shell(train("--learning_rate nan")).exit_code, kExitUsage);
  const auto heads = shell(train("--n_head 3"));
  EXPECT_EQ(heads.exit_code, kExitError);
  EXPECT_THAT(heads.output, HasSubstr("n_head"));
}

TEST_F(TrainGptTest, BadDataIsNamed) {
  std::ofstream(path("empty.txt")).close();
  std::ofstream(path("short.txt")) << "few words";
  for (const auto& [name, word] :
       std::map<std::string, std::string>{{"empty.txt", "empty.txt"},
                                          {"short.txt", "short.txt"},
                                          {"missing.txt", "No such file"}}) {
    const auto ran = shell(train("--data " + path(name)));
    EXPECT_EQ(ran.exit_code, kExitError) << name << ": " << ran.output;
    EXPECT_THAT(ran.output, HasSubstr(word)) << name;
  }
  const auto both = shell(train("--devices 2 --data " + path("short.txt")));
  EXPECT_EQ(both.exit_code, kExitError) << both.output;
  EXPECT_THAT(both.output, HasSubstr("short.txt"));
}

TEST_F(TrainGptTest, BadCheckpointsAreNamedAndNothingIsLost) {
  ASSERT_EQ(shell(train()).exit_code, 0);
  const auto model = path("out/step-20/model.safetensors");
  const auto broken = path("broken.safetensors");
  fs::copy_file(model, broken);
  fs::resize_file(broken, fs::file_size(broken) / 2);
  const auto truncated = shell(train("--init_from " + broken));
  EXPECT_EQ(truncated.exit_code, kExitError);
  EXPECT_THAT(truncated.output, HasSubstr("broken.safetensors"));

  fs::resize_file(path("out/step-20/optimizer.safetensors"), 100);
  const auto resumed = shell(train("--init_from resume"));
  EXPECT_EQ(resumed.exit_code, kExitError);
  EXPECT_THAT(resumed.output, HasSubstr("optimizer.safetensors"));
  EXPECT_TRUE(fs::exists(path("out/step-10/model.safetensors")))
      << "the step before it is still there";

  const auto elsewhere = shell(train("--init_from resume --out_dir " + path("nothing")));
  EXPECT_EQ(elsewhere.exit_code, kExitError);
  EXPECT_THAT(elsewhere.output, HasSubstr("no checkpoint"));

  for (const auto& from : {model, std::string("resume")}) {
    const auto other = shell(train("--n_layer 3 --init_from " + from));
    EXPECT_EQ(other.exit_code, kExitError) << other.output;
    EXPECT_THAT(other.output, HasSubstr("--n_layer 3"));
  }
}

TEST_F(TrainGptTest, OutputThatCannotBeWrittenIsAnErrorOnEveryRank) {
  std::ofstream(path("a_file")) << "not a directory";
  const auto ran = shell(train("--devices 2 --out_dir " + path("a_file")));
  EXPECT_EQ(ran.exit_code, kExitError) << ran.output;
  EXPECT_THAT(ran.output, HasSubstr("a_file"));
  EXPECT_THAT(shell(train("--log_json /dev/full")).output, HasSubstr("/dev/full"));
}

// Half a run by two ranks, sharded, and the rest: the losses of a run that was never interrupted.
TEST_F(TrainGptTest, ShardedCheckpointsContinueBitByBit) {
  const auto dropout = std::string(" --dropout 0.1 --lr_decay_iters 20 ");
  ASSERT_EQ(shell(train(dropout + "--devices 2 --log_json " + path("whole.json") + " --out_dir " +
                        path("whole")))
                .exit_code,
            0);
  const auto half = shell(train(dropout + "--devices 2 --async_checkpoint True --max_iters 10"));
  ASSERT_EQ(half.exit_code, 0) << half.output;
  EXPECT_TRUE(fs::exists(folder_ / "out" / "step-10" / "model-00001-of-00002.safetensors"));
  const auto rest =
      shell(train(dropout + "--devices 2 --checkpoint sharded --init_from resume --log_json " +
                  path("rest.json")));
  ASSERT_EQ(rest.exit_code, 0) << rest.output;
  EXPECT_TRUE(fs::exists(folder_ / "out" / "step-20" / "manifest.json"));
  const auto whole = losses("whole.json");
  const auto second = losses("rest.json");
  ASSERT_EQ(whole.size(), 20u);
  ASSERT_EQ(second.size(), 10u);
  EXPECT_EQ(second, std::vector<double>(whole.begin() + 10, whole.end()));
  // Three ranks, one, and one file: all go on from it.
  const auto three = shell(train(dropout + "--devices 3 --init_from resume --max_iters 22"));
  EXPECT_EQ(three.exit_code, 0) << three.output;
  const auto file = path("one.safetensors");
  ASSERT_EQ(shell(binary("weft") + " consolidate " + path("out") + "/step-20 -o " + file).exit_code,
            0);
  const auto alone = shell(train("--init_from " + file + " --max_iters 1 --out_dir " + path("f")));
  EXPECT_EQ(alone.exit_code, 0) << alone.output;
}

}  // namespace
}  // namespace weft
