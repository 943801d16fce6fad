// The strategies that share out state, in ranks that are processes: over shared memory and over
// TCP, as `weft run` starts them. That all stages have DDP's bits holds for f32 at any N; over TCP
// that needs an all-reduce in the order of ranks, too.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>
#include <string>
#include <vector>

#include "tests/support/shell.h"

namespace weft {
namespace {

using testing::ContainsRegex;
using tests::binary;
using tests::lines_with;
using tests::Ran;
using tests::shell;

struct Job {
  std::string strategy = "ddp";
  int ranks = 2;
  std::string transport = "shm";
  std::string precision = "32-true";
};

Ran run(const Job& job, const std::string& settings) {
  return shell(
      fmt::format("WEFT_NUM_THREADS=1 {} run --devices={} --strategy={} --transport={} "
                  "--precision={} --accelerator=cpu --algorithm=all_reduce=two_shot {} {}",
                  binary("weft"), job.ranks, job.strategy, job.transport, job.precision,
                  binary("sharing_rank_main"), settings));
}

// The same of every rank.
std::string result(const Job& job, const std::string& settings) {
  const auto ran = run(job, settings);
  EXPECT_EQ(ran.exit_code, 0) << ran.output;
  const auto lines = lines_with(ran, "result");
  EXPECT_EQ(lines.size(), static_cast<std::size_t>(job.ranks)) << ran.output;
  if (lines.empty()) return "";
  for (const auto& line : lines) EXPECT_EQ(line, lines[0]) << ran.output;
  return lines[0];
}

std::string value_of(const std::string& result, const std::string& name) {
  std::smatch found;
  const std::regex pattern(name + "=([^ ]*)");
  return std::regex_search(result, found, pattern) ? found[1].str() : "";
}

class SharingTest : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Transports, SharingTest, testing::Values("shm", "tcp"),
                         [](const auto& tested) { return tested.param; });

TEST_P(SharingTest, FiftyStepsHaveTheBitsOfDdp) {
  const auto with = [](std::string strategy, int ranks) {
    return Job{std::move(strategy), ranks, GetParam()};
  };
  for (const int ranks : {2, 3}) {
    const auto ddp = result(with("ddp", ranks), "steps=50");
    for (const char* strategy :
         {"deepspeed_stage_1", "deepspeed_stage_2", "deepspeed_stage_3", "deepspeed", "fsdp"}) {
      EXPECT_EQ(result(with(strategy, ranks), "steps=50"), ddp)
          << strategy << ", " << ranks << " ranks";
    }
  }
}

TEST_P(SharingTest, AccumulationFetchingAheadAndOffloadHaveThemToo) {
  const auto ddp = result({"ddp", 2, GetParam()}, "steps=50 accumulate=2");
  for (const char* strategy : {"deepspeed_stage_1_offload", "deepspeed_stage_2_offload",
                               "deepspeed_stage_3_offload", "fsdp_offload"}) {
    EXPECT_EQ(result({strategy, 2, GetParam()}, "steps=50 accumulate=2"), ddp) << strategy;
  }
  for (const char* live : {"1", "3"}) {
    EXPECT_EQ(
        result({"fsdp", 2, GetParam()}, std::string("steps=50 accumulate=2 live_units=") + live),
        ddp)
        << live;
  }
}

TEST(SharingClippingTest, IsByTheNormOfAllRanks) {
  const auto ddp = result({"ddp", 3}, "steps=5 clip=0.05");
  const double norm = std::stod(value_of(ddp, "norm"));
  EXPECT_GT(norm, 0.05);
  for (const char* strategy : {"deepspeed_stage_1", "deepspeed_stage_2", "fsdp"}) {
    const auto zero = result({strategy, 3}, "steps=5 clip=0.05");
    EXPECT_NEAR(std::stod(value_of(zero, "norm")), norm, 1e-6 * norm) << strategy;
    EXPECT_EQ(result({strategy, 3}, "steps=5 clip_value=1e-3"),
              result({"ddp", 3}, "steps=5 clip_value=1e-3"))
        << strategy;
  }
}

// Halves are gathered and reduced; the shares that are updated are f32.
TEST(SharingPrecisionTest, MixedPrecisionsFollowSinglePrecision) {
  const double exact = std::stod(value_of(result({"ddp", 2}, "steps=50"), "loss"));
  for (const char* strategy : {"deepspeed_stage_1", "deepspeed_stage_2", "fsdp"}) {
    for (const char* precision : {"bf16-mixed", "16-mixed", "bf16-true"}) {
      const bool scales = std::string(precision) == "16-mixed";
      const auto found =
          result({strategy, 2, "shm", precision}, scales ? "steps=50 scale=1024" : "steps=50");
      EXPECT_NEAR(std::stod(value_of(found, "loss")), exact, 0.02 * exact)
          << strategy << ' ' << precision;
      EXPECT_EQ(value_of(found, "skipped"), "0");
    }
  }
}

// One gradient of one share of one rank is infinite: nobody steps, everybody halves the scale.
TEST(SharingLossScaleTest, TheVerdictIsThatOfAllRanks) {
  for (const char* strategy : {"deepspeed_stage_1", "deepspeed_stage_2", "fsdp"}) {
    const Job job{strategy, 3, "shm", "16-mixed"};
    for (const char* rank : {"0", "2"}) {
      const auto found =
          result(job, std::string("steps=4 scale=1024 clip=1 poison_step=1 poison_rank=") + rank);
      EXPECT_EQ(value_of(found, "skipped"), "1") << strategy;
      EXPECT_EQ(value_of(found, "scale"), "512") << strategy;
    }
    EXPECT_EQ(value_of(result(job, "steps=4 scale=1024"), "skipped"), "0") << strategy;
  }
}

// Under the smallest scale it is an error, and every rank names the parameter, wherever it lies.
TEST(SharingLossScaleTest, AnOverflowThatIsNotTheScalesNamesTheParameter) {
  for (const char* strategy : {"deepspeed_stage_2", "fsdp"}) {
    const auto ran = run({strategy, 3, "shm", "16-mixed"},
                         "steps=4 scale=8 least=8 poison_step=2 poison_rank=2");
    EXPECT_NE(ran.exit_code, 0) << ran.output;
    for (const char* rank : {"0", "1", "2"}) {
      EXPECT_THAT(ran.output, ContainsRegex(fmt::format(
                                  "\\[rank {}\\] not_finite: .* at its smallest, 8: those "
                                  "of transformer[a-z0-9_.]*weight[.]",
                                  rank)))
          << strategy;
    }
  }
}

}  // namespace
}  // namespace weft
