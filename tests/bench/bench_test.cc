// weft bench as its users run it: nccl-tests' options, columns and footer.
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

std::string bench(const std::string& options) { return binary("weft") + " bench " + options; }

class EveryCollective : public testing::TestWithParam<std::tuple<const char*, const char*>> {};

TEST_P(EveryCollective, GivesRightResults) {
  const auto [collective, transport] = GetParam();
  const auto ran = shell(bench(std::string(collective) +
                               " --devices 3 -b 4 -e 4K -f 32 -n 3 -w 1 --transport " + transport));
  EXPECT_EQ(ran.exit_code, 0) << ran.output;
  EXPECT_THAT(ran.output, HasSubstr("# Out of bounds values : 0 OK"));
  EXPECT_THAT(ran.output, HasSubstr("# Avg bus bandwidth    : "));
}

INSTANTIATE_TEST_SUITE_P(All, EveryCollective,
                         testing::Combine(testing::Values("all_reduce", "reduce", "broadcast",
                                                          "all_gather", "reduce_scatter", "gather",
                                                          "scatter", "all_to_all", "send_recv",
                                                          "barrier"),
                                          testing::Values("tcp", "inproc")));

TEST(BenchTest, TypesOpsAndModes) {
  for (const char* options :
       {"-d bf16 -o avg", "-d f16 -o prod", "-d i32 -o max", "-d u8 -o sum", "-d f64 -o min -z 0",
        "-i 100 -b 100 -e 300", "--algorithm ring", "--algorithm tree", "-c 0"}) {
    const auto ran =
        shell(bench(std::string("all_reduce --transport inproc -b 64 -e 1K -f 4 -n 2 ") + options));
    EXPECT_EQ(ran.exit_code, 0) << options << "\n" << ran.output;
    EXPECT_THAT(ran.output, HasSubstr("0 OK")) << options;
  }
}

TEST(BenchTest, CompressesOnTheWire) {
  for (const char* collective : {"all_reduce -o sum", "all_reduce -o avg", "reduce", "broadcast",
                                 "all_gather", "reduce_scatter"}) {
    const auto ran = shell(bench(std::string(collective) +
                                 " --transport inproc --devices 3 -b 64 -e 64K -f 32 -n 2 --wire "
                                 "bf16"));
    EXPECT_EQ(ran.exit_code, 0) << collective << "\n" << ran.output;
    EXPECT_THAT(ran.output, HasSubstr("wire bf16"));
    EXPECT_THAT(ran.output, HasSubstr("0 OK")) << collective;
  }
  const auto gather = shell(bench("gather --wire f16"));
  EXPECT_EQ(gather.exit_code, 2);
  EXPECT_THAT(gather.output, HasSubstr("gather does not compress"));
  const auto typed = shell(bench("all_reduce -d f64 --wire f16"));
  EXPECT_EQ(typed.exit_code, 2);
  EXPECT_THAT(typed.output, HasSubstr("f32"));
}

TEST(BenchTest, WritesJson) {
  const auto file = tests::scratch("bench_test.json");
  const auto ran =
      shell(bench("all_gather --transport inproc --devices 2 -b 1K -e 4K -n 2 --json " + file));
  ASSERT_EQ(ran.exit_code, 0) << ran.output;
  std::ifstream in(file);
  const auto document = nlohmann::json::parse(in);
  EXPECT_EQ(document.at("ranks"), 2);
  ASSERT_EQ(document.at("rows").size(), 3u);
  const auto& row = document["rows"][2];
  EXPECT_EQ(row.at("bytes"), 4096);
  EXPECT_EQ(row.at("count"), 512);
  const auto& timing = row.at("out_of_place");
  EXPECT_EQ(timing.at("wrong"), 0);
  const double algbw = timing.at("algbw_gbps"), busbw = timing.at("busbw_gbps");
  EXPECT_NEAR(busbw, algbw * 0.5, 1e-9);
  std::remove(file.c_str());
}

TEST(BenchTest, BadOptionsExitWithTheChoices) {
  const auto collective = shell(bench("all_reduced"));
  EXPECT_EQ(collective.exit_code, 2);
  EXPECT_THAT(collective.output, HasSubstr("reduce_scatter"));
  EXPECT_EQ(shell(bench("all_reduce -d f8")).exit_code, 2);
  EXPECT_EQ(shell(bench("all_reduce -b 1M -e 1K")).exit_code, 2);
  EXPECT_EQ(shell(bench("all_reduce --devices 0")).exit_code, 2);
  EXPECT_EQ(shell(bench("broadcast -r 7 --transport inproc")).exit_code, 2);
  EXPECT_THAT(shell(bench("all_reduce --algorithm bush")).output, HasSubstr("ring"));
  EXPECT_EQ(shell(bench("all_reduce -b 8 -e 8 -n 1 --json /nonexistent/file --transport inproc"))
                .exit_code,
            1);
}

}  // namespace
}  // namespace weft
