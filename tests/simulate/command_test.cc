// weft simulate as its users run it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/support/scratch.h"
#include "tests/support/shell.h"

namespace weft {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using tests::binary;
using tests::shell;

std::string simulate(const std::string& options) { return binary("weft") + " simulate " + options; }

json read(const std::string& path) {
  std::ifstream file(path);
  return json::parse(file);
}

TEST(SimulateCommand, EveryCollectiveHasATime) {
  for (const char* collective : {"all_reduce", "reduce", "broadcast", "all_gather",
                                 "reduce_scatter", "gather", "scatter", "all_to_all", "barrier"}) {
    const auto ran = shell(simulate(std::string(collective) + " --ranks 12 --ranks-per-host 4"));
    EXPECT_EQ(ran.exit_code, 0) << ran.output;
    EXPECT_THAT(ran.output, HasSubstr(std::string(collective) + " by "));
    EXPECT_THAT(ran.output, HasSubstr("12 ranks on 3 hosts"));
    EXPECT_THAT(ran.output, HasSubstr("busbw "));
  }
}

TEST(SimulateCommand, WritesJson) {
  const auto file = tests::scratch("simulate.json");
  const auto ran = shell(simulate(
      "all_reduce --ranks 16 --algorithm ring --bytes 1M --tiles 2 --lanes 2 --json " + file));
  ASSERT_EQ(ran.exit_code, 0) << ran.output;
  const json result = read(file);
  EXPECT_EQ(result.at("bytes"), 1 << 20);
  EXPECT_EQ(result.at("ranks"), 16);
  EXPECT_EQ(result.at("tiles"), 2);
  EXPECT_EQ(result.at("lanes"), 2);
  EXPECT_EQ(result.at("messages"), 16 * 30 * 2);
  EXPECT_EQ(result.at("busiest_links").size(), 10u);
  const double time_us = result.at("time_us"), busbw = result.at("busbw_gbps");
  EXPECT_NEAR(busbw, (1 << 20) / time_us * 1e-3 * 2 * 15 / 16, 1e-9);
  std::remove(file.c_str());
}

TEST(SimulateCommand, TheTimelineIsATraceWithoutOverlaps) {
  const auto file = tests::scratch("simulate_timeline.json");
  const auto ran =
      shell(simulate("all_reduce --ranks 12 --ranks-per-host 2 --algorithm tree "
                     "--bytes 3000001 --timeline-ranks 5 --timeline " +
                     file));
  ASSERT_EQ(ran.exit_code, 0) << ran.output;
  const json trace = read(file);
  std::map<std::pair<int, int>, std::vector<std::pair<double, double>>> tracks;
  std::map<std::pair<int, int>, std::string> names;
  std::set<std::string> kinds;
  for (const json& event : trace.at("traceEvents")) {
    const std::pair<int, int> track{event.at("pid"), event.at("tid")};
    EXPECT_GT(track.second, 0) << "Perfetto takes thread 0 for the process's first: " << event;
    if (event.at("ph") == "M") {
      if (event.at("name") == "thread_name") names[track] = event.at("args").at("name");
      continue;
    }
    EXPECT_EQ(event.at("ph"), "X");
    EXPECT_LT(event.at("pid"), 5);
    kinds.insert(event.at("name"));
    tracks[track].emplace_back(event.at("ts"), event.at("dur"));
  }
  EXPECT_THAT(kinds, testing::IsSupersetOf({"send", "receive", "reduce", "transfer"}));
  EXPECT_GE(tracks.size(), 10u);
  for (auto& [track, slices] : tracks) {
    EXPECT_TRUE(names.contains(track)) << track.first << " " << track.second;
    std::sort(slices.begin(), slices.end());
    for (std::size_t i = 1; i < slices.size(); ++i) {
      EXPECT_LE(slices[i - 1].first + slices[i - 1].second, slices[i].first + 1e-6)
          << names[track] << " of rank " << track.first;
    }
  }
  std::remove(file.c_str());
}

TEST(SimulateCommand, ANetworkFileChangesTheTime) {
  const auto file = tests::scratch("simulate_network.json");
  const auto time_of = [&](const std::string& network) {
    std::ofstream(file) << network;
    const auto out = tests::scratch("simulate_network_out.json");
    const auto ran = shell(
        simulate("--ranks 8 --bytes 64M --algorithm ring --json " + out + " --network " + file));
    EXPECT_EQ(ran.exit_code, 0) << ran.output;
    const double time_us = read(out).at("time_us");
    std::remove(out.c_str());
    return time_us;
  };
  const double gigabit = time_of(R"({"link": {"up_gbit_s": 1, "down_gbit_s": 1}})");
  const double tenth = time_of(R"({"link": {"up_gbit_s": 0.1, "down_gbit_s": 0.1}})");
  EXPECT_NEAR(tenth / gigabit, 10, 0.5);
  EXPECT_NEAR(gigabit, 2.0 * 7 / 8 * (64 << 20) / 125 / 0.95, gigabit * 0.05);

  std::ofstream(file) << "{\n\"link\": {\n\"rate\": 3}}";
  const auto ran = shell(simulate("--ranks 8 --network " + file));
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_THAT(ran.output, HasSubstr(file + ", line 3, field /link/rate: there is no such field"));
  std::remove(file.c_str());
}

TEST(SimulateCommand, BadOptionsExitWithTheChoices) {
  EXPECT_EQ(shell(simulate("")).exit_code, 2);
  EXPECT_EQ(shell(simulate("--ranks 0")).exit_code, 2);
  EXPECT_EQ(shell(simulate("--ranks 65537")).exit_code, 2);
  EXPECT_EQ(shell(simulate("--ranks 4 --bytes 5Z")).exit_code, 2);
  EXPECT_EQ(shell(simulate("--ranks 4 --bytes 2T")).exit_code, 2);
  EXPECT_EQ(shell(simulate("--ranks 4 --tiles 0")).exit_code, 2);
  EXPECT_EQ(shell(simulate("broadcast --ranks 4 --root 4")).exit_code, 2);
  EXPECT_THAT(shell(simulate("all_reduced --ranks 4")).output, HasSubstr("reduce_scatter"));
  EXPECT_THAT(shell(simulate("--ranks 4 --algorithm bush")).output, HasSubstr("halving_doubling"));
  const auto wrong = shell(simulate("all_to_all --ranks 4 --algorithm tree"));
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_THAT(wrong.output, HasSubstr("these do: direct"));
  const auto many = shell(simulate("all_to_all --ranks 65536 --algorithm direct"));
  EXPECT_EQ(many.exit_code, 2);
  EXPECT_THAT(many.output, HasSubstr("at most"));
}

TEST(SimulateCommand, FilesThatCannotBeWrittenAreNamedBeforeTheWork) {
  for (const char* option : {"--json", "--timeline"}) {
    const auto ran = shell(simulate("--ranks 4 " + std::string(option) + " /nonexistent/file"));
    EXPECT_EQ(ran.exit_code, 1);
    EXPECT_THAT(ran.output, HasSubstr(std::string(option) + "=/nonexistent/file"));
  }
  EXPECT_EQ(shell(simulate("--ranks 4 --network /nonexistent/file")).exit_code, 2);
}

}  // namespace
}  // namespace weft
