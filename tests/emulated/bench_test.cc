// `weft bench --accelerator cuda` over the emulator's devices.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "comm/select/tuning_file.h"
#include "tests/support/scratch.h"
#include "tests/support/shell.h"

namespace weft {
namespace {

using testing::HasSubstr;
using tests::shell;

std::string bench(const std::string& options) {
  return tests::binary("weft_bench_emulated") + " " + options;
}

constexpr const char* kGraphs = "--transport shm -G 2";

class CudaBenchTest : public testing::TestWithParam<std::tuple<const char*, const char*>> {};

TEST_P(CudaBenchTest, GivesRightResults) {
  const auto [collective, wanted] = GetParam();
  // Which has no graph.
  const std::string how =
      std::string(collective) == "send_recv" && wanted == kGraphs ? "--transport shm -z 1" : wanted;
  const auto ran =
      shell(bench(std::string(collective) +
                  " --accelerator cuda --devices 3 -b 4 -e 4K -f 32 -n 3 -w 1 " + how));
  EXPECT_EQ(ran.exit_code, 0) << ran.output;
  EXPECT_THAT(ran.output, HasSubstr("# buffers in memory of "));
  EXPECT_THAT(ran.output, HasSubstr("# Out of bounds values : 0 OK"));
}

INSTANTIATE_TEST_SUITE_P(
    All, CudaBenchTest,
    testing::Combine(
        testing::Values("all_reduce", "reduce -r 1", "broadcast", "all_gather", "reduce_scatter",
                        "gather", "scatter", "all_to_all", "send_recv", "barrier"),
        testing::Values("--transport inproc", "--transport inproc -z 1 --registered", kGraphs)));

TEST(CudaBench, TellsHowRanksShareMemory) {
  const auto file = tests::scratch("bench.json");
  const auto ask = [&](const std::string& options) {
    const auto ran = shell(bench("all_reduce --accelerator cuda --devices 2 -b 64 -e 64 -n 2 " +
                                 options + " --json " + file));
    EXPECT_EQ(ran.exit_code, 0) << ran.output;
    return nlohmann::json::parse(std::ifstream(file));
  };
  const auto threads = ask("--transport inproc --registered -d bf16");
  EXPECT_THAT(std::string(threads.at("buffers_in")), HasSubstr("threads of one process"));
  EXPECT_EQ(threads.at("rows").at(0).at("in_place").at("wrong"), 0);
  EXPECT_EQ(threads.at("blocking"), false);
  EXPECT_EQ(threads.at("registered"), true);
  const auto processes = ask("--transport shm -G 3");
  EXPECT_THAT(std::string(processes.at("buffers_in")), HasSubstr("CUDA IPC"));
  EXPECT_EQ(processes.at("graph_launches"), 3);
  EXPECT_EQ(ask("--devices 1").at("ranks"), 1);
  EXPECT_THAT(std::string(ask("--transport tcp").at("buffers_in")), HasSubstr("host memory"));
}

TEST(CudaBench, NamesTheDevicesOfAllRanks) {
  const auto ran = shell(bench("all_reduce --accelerator cuda --devices 3 -b 0 -e 4 -n 2 -w 1"));
  EXPECT_EQ(ran.exit_code, 0) << ran.output;
  EXPECT_THAT(ran.output, testing::AllOf(HasSubstr("(0: rank 0 2)"), HasSubstr("(1: rank 1)"),
                                         HasSubstr("blocks at most")));
  EXPECT_THAT(ran.output, testing::Not(HasSubstr("lanes 1")));
  std::istringstream lines(ran.output);
  int rows = 0;
  for (std::string line; std::getline(lines, line);) rows += line.rfind("  ", 0) == 0 ? 1 : 0;
  EXPECT_EQ(rows, 2) << "0 bytes and 4, each once\n" << ran.output;
  const auto unwritable = shell(
      bench("all_reduce --accelerator cuda --devices 2 -n 1000000 -b 8 -e 8 --json /nowhere/x"),
      30);
  EXPECT_EQ(unwritable.exit_code, 1);
  EXPECT_THAT(unwritable.output, HasSubstr("/nowhere/x"));
}

TEST(CudaBench, TuningOfDevicesIsUsedByJobs) {
  const auto file = tests::scratch("tuning.json");
  const auto tuned = shell(tests::binary("weft_tune_emulated") +
                           " --accelerator cuda --quick --devices 2 --output " + file);
  ASSERT_EQ(tuned.exit_code, 0) << tuned.output;
  EXPECT_THAT(tuned.output, HasSubstr("the model is off by"));
  const auto tuning = comm::parse_tuning(comm::read_tuning_text(file), file);
  ASSERT_FALSE(tuning.measured.empty());
  for (const auto& table : tuning.measured) EXPECT_EQ(table.medium, comm::Medium::cuda);
  EXPECT_NE(tuning.cuda.wait, comm::kCudaCosts.wait);
  EXPECT_THAT(tuned.output, HasSubstr("# flags go beside the data up to"));
  EXPECT_LE(tuning.cuda_small_bytes, 32 << 10);
  EXPECT_EQ(tuning.shared.wait, comm::kSharedCosts.wait);
  const auto shown = shell(tests::binary("weft_tune_emulated") +
                           " --show --accelerator cuda --ranks 2 --bytes 64 --file " + file);
  EXPECT_EQ(shown.exit_code, 0) << shown.output;
  EXPECT_THAT(shown.output, HasSubstr("over cuda"));
  EXPECT_THAT(shown.output, HasSubstr("decided by measured"));
  for (const char* ranks : {"--ranks 4 --ranks-per-host 2", "--ranks 65"}) {
    const auto through_host = shell(tests::binary("weft_tune_emulated") +
                                    " --show --accelerator cuda " + ranks + " --file " + file);
    EXPECT_EQ(through_host.exit_code, 0) << through_host.output;
    EXPECT_THAT(through_host.output, HasSubstr("go through pinned host memory"));
    EXPECT_THAT(through_host.output, testing::Not(HasSubstr("over cuda")));
  }
  const auto used = shell("WEFT_TUNING=" + file + " " +
                          bench("all_reduce --accelerator cuda -b 8 -e 1M -f 64 -n 2"));
  EXPECT_EQ(used.exit_code, 0) << used.output;
  EXPECT_THAT(used.output, HasSubstr("0 OK"));
}

TEST(CudaBench, BadWishesAreRefused) {
  const auto refused = [](const std::string& options, const char* why) {
    const auto ran = shell(bench("all_reduce --devices 2 -b 8 -e 8 " + options));
    EXPECT_EQ(ran.exit_code, 2) << options << "\n" << ran.output;
    EXPECT_THAT(ran.output, HasSubstr(why)) << options;
  };
  refused("-G 2", "--accelerator=cuda");
  EXPECT_EQ(shell(bench("send_recv --accelerator cuda -G 2")).exit_code, 2);
  refused("--accelerator cuda -G 2 -z 1", "leave out -z 1");
  refused("--accelerator cuda --wire bf16", "leave it out");
  refused("--accelerator tpu", "cuda");
  for (const char* transport : {"inproc", "shm"}) {
    const auto none = shell("WEFT_EMULATED_DEVICES=0 " +
                            bench(std::string("all_reduce --accelerator cuda --devices 2 -b 8 -e 8 "
                                              "--transport ") +
                                  transport));
    EXPECT_NE(none.exit_code, 0);
    EXPECT_THAT(none.output, HasSubstr("no CUDA device")) << transport;
  }
}

}  // namespace
}  // namespace weft
