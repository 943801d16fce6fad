// train_gpt over token files in epochs: where the data stands is in its checkpoints.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <numeric>

#include "tensor/random.h"
#include "tests/examples/train_gpt_fixture.h"
#include "tests/launcher/child_process.h"
#include "tests/support/shell.h"
#include "tests/support/soon.h"

namespace weft {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using tests::binary;
using tests::kExitError;
using tests::shell;

constexpr std::int64_t kBlock = 16;
constexpr std::uint64_t kVocabulary = 50;

struct Line {
  double loss = 0;
  std::int64_t sequences = 0;
  std::int64_t epoch = 0;
};

// The pids of a process's children, as they are now.
std::vector<pid_t> children_of(pid_t pid) {
  std::ifstream in(fmt::format("/proc/{}/task/{}/children", pid, pid));
  return {std::istream_iterator<pid_t>(in), {}};
}

std::string bytes_of_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << path;
  return {std::istreambuf_iterator<char>(in), {}};
}

class EpochTest : public tests::TrainGptTest {
 protected:
  // Three files of 40, 30 and 15 windows, and some tokens that make none.
  static constexpr std::int64_t kWindows = 85;
  void SetUp() override {
    fs::create_directory(path("shards"));
    write_tokens("shards/a.bin", 40 * kBlock + 5, 1);
    write_tokens("shards/b.bin", 30 * kBlock + 1, 2);
    write_tokens("shards/c.bin", 15 * kBlock + 15, 3);
    write_tokens("val.bin", 200, 4);
  }

  void write_tokens(const std::string& name, std::int64_t count, std::uint64_t seed) const {
    std::vector<std::int32_t> header(256);
    header[0] = 20240520;
    header[1] = 1;
    header[2] = static_cast<std::int32_t>(count);
    tensor::Generator generator(seed);
    std::vector<std::uint16_t> tokens(static_cast<std::size_t>(count));
    for (auto& t : tokens) t = static_cast<std::uint16_t>(generator.next_below(kVocabulary));
    std::ofstream out(path(name), std::ios::binary);
    out.write(reinterpret_cast<const char*>(header.data()), 1024);
    out.write(reinterpret_cast<const char*>(tokens.data()), 2 * count);
  }

  std::string epochs(const std::string& more) const {
    return train("--tokenizer bin --data " + path("shards") + " --val_data " + path("val.bin") +
                 " --order epoch --sample_tokens 0 " + more);
  }

  std::vector<Line> log(const std::string& name) const {
    std::ifstream in(path(name));
    std::vector<Line> lines;
    for (std::string text; std::getline(in, text);) {
      const auto value = nlohmann::json::parse(text);
      lines.push_back({value.at("loss"), value.at("sequences"), value.at("epoch")});
    }
    return lines;
  }

  // weft run, until it has saved twice; then no process of it is left. Gives the newest step.
  std::int64_t run_and_kill(const std::string& command) const {
    test::ChildProcess job({"sh", "-c", "exec " + command});
    EXPECT_TRUE(job.wait_for_output("step-14", 2 * tests::kSoon));
    const auto ranks = children_of(job.pid());
    EXPECT_GE(ranks.size(), 2u) << "the ranks, and what helps the launcher";
    job.kill(SIGSTOP);  // it shall not tell them to go
    for (const auto pid : ranks) ::kill(pid, SIGKILL);
    job.kill(SIGKILL);
    for (const auto pid : ranks) EXPECT_TRUE(test::ends_within(pid, tests::kSoon));
    EXPECT_EQ(job.wait(), 128 + SIGKILL);
    const auto text = shell("ls " + path("killed")).output;
    std::int64_t newest = 0;
    for (const auto& line : test::ChildProcess::lines(text)) {
      if (line.starts_with("step-"))
        newest = std::max<std::int64_t>(newest, std::stoll(line.substr(5)));
    }
    return newest;
  }
};

// Two ranks, killed somewhere behind step 14, against two that nobody disturbed. Eleven steps make
// an epoch, the last with fewer micro-batches and fewer samples than the others.
TEST_F(EpochTest, KilledAndResumedItContinuesBitByBit) {
  const std::pair<std::string, std::string> cases[] = {
      {"ddp", "single"}, {"ddp", "sharded"}, {"fsdp", "sharded"}};
  for (const auto& [strategy, form] : cases) {
    SCOPED_TRACE(strategy + ", " + form);
    const auto run = binary("weft") + " run --devices=2 --strategy=" + strategy + " ";
    const auto undisturbed = path("whole-" + strategy + "-" + form);
    const auto common =
        std::string("--batch_size 2 --gradient_accumulation_steps 2 --dropout 0.1 ") +
        "--eval_interval 7 --lr_decay_iters 1000 --checkpoint " + form;
    fs::remove_all(path("killed"));
    const auto newest =
        run_and_kill(run + epochs(common + " --max_iters 100000 --out_dir " + path("killed")));
    ASSERT_GE(newest, 14);
    const auto end = " --max_iters " + std::to_string(newest + 17);
    const auto resumed = shell(run + epochs(common + end + " --init_from resume --out_dir " +
                                            path("killed") + " --log_json " + path("rest.json")));
    ASSERT_EQ(resumed.exit_code, 0) << resumed.output;
    EXPECT_THAT(resumed.output, HasSubstr(fmt::format("at iteration {}", newest)));
    const auto whole = shell(run + epochs(common + end + " --out_dir " + undisturbed +
                                          " --log_json " + path("whole.json")));
    ASSERT_EQ(whole.exit_code, 0) << whole.output;
    const auto rest = losses("rest.json"), all = losses("whole.json");
    ASSERT_EQ(rest.size(), 17u);
    EXPECT_EQ(rest, std::vector<double>(all.end() - 17, all.end())) << "from step " << newest;
    const auto last = fmt::format("step-{}", newest + 17);
    for (const auto& file : fs::directory_iterator(undisturbed + "/" + last)) {
      const auto other = fs::path(path("killed")) / last / file.path().filename();
      EXPECT_TRUE(bytes_of_file(file.path()) == bytes_of_file(other)) << other;
    }
    const auto lines = log("whole.json");
    EXPECT_EQ(lines[10].sequences, kWindows - 10 * 8) << "what the others leave";
    EXPECT_EQ(lines[10].epoch, 0);
    EXPECT_EQ(lines[11].epoch, 1);
  }
}

// With a rate of 0 the loss of a window is the same whenever it comes, and names the window.
TEST_F(EpochTest, EachWindowComesOnceOnAnotherNumberOfRanks) {
  const std::string frozen = "--learning_rate 0 --weight_decay 0 --warmup_iters 0 --max_epochs 1 ";
  const auto ran = shell(epochs(frozen + "--batch_size 1 --max_iters 1000 --out_dir " +
                                path("one") + " --log_json " + path("one.json")));
  ASSERT_EQ(ran.exit_code, 0) << ran.output;
  std::vector<double> expected;
  for (const auto& line : log("one.json")) {
    EXPECT_EQ(line.sequences, 1);
    expected.push_back(line.loss);
  }
  ASSERT_EQ(expected.size(), static_cast<std::size_t>(kWindows)) << "one epoch, then it ends";
  std::sort(expected.begin(), expected.end());

  const auto begun = shell(epochs(frozen + "--devices 2 --batch_size 3 --max_iters 5 --out_dir " +
                                  path("two") + " --log_json " + path("two.json")));
  ASSERT_EQ(begun.exit_code, 0) << begun.output;
  const auto sum_of = [&](const std::string& name) {
    double sum = 0;
    for (const auto& line : log(name)) sum += line.loss * static_cast<double>(line.sequences);
    return sum;
  };
  const auto total = std::accumulate(expected.begin(), expected.end(), 0.0);
  const auto first = sum_of("two.json");
  for (const std::string ranks : {"1", "3"}) {
    SCOPED_TRACE(ranks + " ranks");
    const auto out = path("on" + ranks);
    fs::copy(path("two"), out, fs::copy_options::recursive);
    const auto rest =
        shell(epochs(frozen + "--init_from resume --batch_size 1 --max_iters 1000 " + "--devices " +
                     ranks + " --out_dir " + out + " --log_json " + path("rest.json")));
    ASSERT_EQ(rest.exit_code, 0) << rest.output;
    std::int64_t sequences = 0;
    for (const auto& line : log("rest.json")) sequences += line.sequences;
    EXPECT_EQ(sequences, kWindows - 5 * 6);
    EXPECT_NEAR(first + sum_of("rest.json"), total, 1e-5 * total);
    if (ranks != "1") continue;
    auto left = expected;
    for (const auto& line : log("rest.json")) {  // one window each: none twice
      const auto found = std::find_if(
          left.begin(), left.end(), [&](double loss) { return std::abs(loss - line.loss) < 1e-6; });
      ASSERT_NE(found, left.end()) << line.loss;
      left.erase(found);
    }
    EXPECT_NEAR(std::accumulate(left.begin(), left.end(), 0.0), first, 1e-5 * first)
        << "what was left out is what two ranks had seen";
  }
}

TEST_F(EpochTest, AnotherOrderDataOrSeedIsRefused) {
  ASSERT_EQ(shell(epochs("--max_iters 10")).exit_code, 0);
  const auto refuse = [&](const std::string& more, const std::vector<std::string>& parts) {
    for (const char* ranks : {"1", "2"}) {
      const auto ran = shell(train("--tokenizer bin --val_data " + path("val.bin") +
                                   " --init_from resume --devices " + ranks + " " + more));
      EXPECT_EQ(ran.exit_code, kExitError) << ran.output;
      for (const auto& part : parts) EXPECT_THAT(ran.output, HasSubstr(part));
    }
  };
  const auto shards = "--data " + path("shards") + " ";
  refuse(shards + "--order random", {"--order random", "order 'epoch'", "step-10"});
  refuse(shards + "--seed 3", {"step-10", "seed 1337", "this one has 3"});
  refuse("--data " + path("shards/a.bin"), {"step-10", "samples 85", "this one has 40"});
  const auto goes_on =
      shell(train("--tokenizer bin --val_data " + path("val.bin") + " " + shards +
                  "--init_from resume --max_iters 12 --log_json " + path("on.json")));
  ASSERT_EQ(goes_on.exit_code, 0) << goes_on.output;
  EXPECT_EQ(log("on.json").size(), 2u) << "in the checkpoint's order, which is told by it";
}

// Of a model that exists the vocabulary is known: the data must keep to it, and need not use it.
TEST_F(EpochTest, TokensOutsideTheModelsVocabularyAreRefused) {
  ASSERT_EQ(shell(epochs("--max_iters 10")).exit_code, 0);
  {
    std::fstream file(path("shards/b.bin"), std::ios::binary | std::ios::in | std::ios::out);
    const std::uint16_t token = kVocabulary;
    file.seekp(1024 + 2 * 77);
    file.write(reinterpret_cast<const char*>(&token), 2);
  }
  for (const auto& from : {std::string("resume"), path("out/step-10/model.safetensors")}) {
    const auto ran = shell(epochs("--max_iters 20 --init_from " + from));
    EXPECT_EQ(ran.exit_code, kExitError) << ran.output;
    EXPECT_THAT(ran.output, HasSubstr("b.bin: token 50 at place 77"));
    EXPECT_THAT(ran.output, HasSubstr("0..49"));
  }
  std::vector<std::uint16_t> few(100, 7);
  write_tokens("few.bin", 100, 9);
  std::fstream file(path("few.bin"), std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(1024);
  file.write(reinterpret_cast<const char*>(few.data()), 200);
  file.close();
  const auto ran =
      shell(train("--tokenizer bin --data " + path("few.bin") + " --val_data " + path("few.bin") +
                  " --max_iters 20 --init_from " + path("out/step-10/model.safetensors")));
  EXPECT_EQ(ran.exit_code, 0) << ran.output;
}

}  // namespace
}  // namespace weft
