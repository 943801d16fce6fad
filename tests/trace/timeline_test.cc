// Timelines of whole jobs: written, merged, and what they say.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "comm/communicator.h"
#include "comm/environment.h"
#include "comm/trace/merge.h"
#include "tests/launcher/child_process.h"
#include "tests/trace/chrome_trace.h"

namespace weft::test {
namespace {

using comm::trace::merge_timelines;
using comm::trace::MergeReport;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;

const std::string kMember = bin("trace_member_main");

MergeReport merge(const ScratchDirectory& directory) {
  return merge_timelines({{directory.path()}, directory / "merged.json", ""});
}

void run_threads(int size, const std::function<void(comm::Communicator&)>& body) {
  auto world = Communicator::in_process(size);
  std::vector<std::thread> threads;
  for (auto& mine : world) threads.emplace_back([&body, &mine] { body(mine); });
  for (std::thread& thread : threads) thread.join();
}

class Timelines : public ::testing::Test {
 protected:
  void SetUp() override { ::setenv(comm::env::kTimeline, directory_.path().c_str(), 1); }
  void TearDown() override {
    ::unsetenv(comm::env::kTimeline);
    ::unsetenv(comm::env::kTimelineEvents);
  }
  ScratchDirectory directory_;
};

TEST_F(Timelines, OfFourThreadsMerge) {
  run_threads(4, [](comm::Communicator& mine) {
    std::vector<float> data(50'000, 1.0f);
    for (int k = 0; k < 5; ++k) mine.all_reduce(std::span<float>(data));
    Work first = mine.all_reduce_async(std::span<float>(data), ReduceOp::max);
    Work second = mine.broadcast_async(std::span<float>(data), 1);
    first.wait();
    second.wait();
    mine.barrier();
    if (mine.rank() == 0) mine.send(std::span<const float>(data), 3);
    if (mine.rank() == 3) mine.recv(std::span<float>(data), 0);
    auto half = mine.split(mine.rank() / 2);
    half->all_reduce(std::span<float>(data));
  });
  const MergeReport report = merge(directory_);
  EXPECT_EQ(report.files, 8);  // the world's and the halves'
  EXPECT_EQ(report.ranks, 4);
  EXPECT_EQ(report.dropped, 0u);
  const ChromeTrace trace = read_chrome_trace(directory_ / "merged.json");
  EXPECT_EQ(trace.processes.size(), 4u);
  EXPECT_THAT(trace.processes.at(3), HasSubstr("rank 3 ("));
  // 5 and 2 asynchronous ones, a barrier, split's all_gather, the half's; one message at two ranks.
  EXPECT_EQ(trace.operations, 4 * 10 + 2);
  for (int rank = 0; rank < 4; ++rank) {
    EXPECT_EQ(trace.count(rank, "call", "all_reduce #1"), 2) << "in the world and in its half";
    EXPECT_EQ(trace.count(rank, "call", "barrier #8"), 1);
    EXPECT_EQ(trace.count(rank, "call", "broadcast #7"), 0) << "nobody blocked in it";
    EXPECT_GT(trace.count(rank, "wait"), 0);
    EXPECT_GT(trace.count(rank, "compute"), 0);
  }
  EXPECT_EQ(trace.count(0, "message", "send"), trace.count(3, "message", "receive"));
  EXPECT_GT(report.arrows, 0u);
  EXPECT_EQ(trace.arrows.size(), report.arrows);
  for (const auto& [id, ends] : trace.arrows) EXPECT_LE(ends.first, ends.second) << "arrow " << id;
}

// Ranks as processes over sockets; `environment` of one of them alone: sh -c sets it.
ChromeTrace trace_processes(const ScratchDirectory& directory, const std::string& setting,
                            MergeReport& report) {
  ChildProcess run(weft_run({"--devices=2", "--transport=tcp", "--timeline", directory.path(), "sh",
                             "-c", setting + "exec \"$0\" work 0 0 200", kMember}));
  EXPECT_EQ(run.wait(), 0) << run.err();
  report = merge(directory);
  return read_chrome_trace(directory / "merged.json");
}

TEST(ProcessTimelines, OfTwoProcessesMerge) {
  const ScratchDirectory directory;
  MergeReport report;
  const ChromeTrace trace = trace_processes(directory, "", report);
  EXPECT_EQ(report.files, 2);
  EXPECT_EQ(trace.operations, 400);
  EXPECT_EQ(report.clocks.size(), 1u) << "one host, one clock";
  for (int rank = 0; rank < 2; ++rank) {
    EXPECT_EQ(trace.count(rank, "call"), 200);
    EXPECT_EQ(trace.count(rank, "message", "send"), trace.count(1 - rank, "message", "receive"));
    EXPECT_GE(trace.count(rank, "message", "send"), 200);
  }
  EXPECT_EQ(static_cast<int>(trace.arrows.size()),
            trace.count(0, "message", "send") + trace.count(1, "message", "send"));
  for (const auto& [id, ends] : trace.arrows) EXPECT_LE(ends.first, ends.second) << "arrow " << id;
}

// Rank 1 lives on a clock that is 3 seconds ahead and loses 5000 ppm.
TEST(ProcessTimelines, ClocksAreAligned) {
  const ScratchDirectory directory;
  MergeReport report;
  const ChromeTrace trace = trace_processes(
      directory, "test $RANK = 0 || export WEFT_TRACE_CLOCK_SKEW=3000000000,-5; ", report);
  ASSERT_EQ(report.clocks.size(), 2u);
  const nlohmann::json clocks = trace.head.at("weft_merged").at("clocks");
  ASSERT_EQ(clocks.size(), 2u);
  EXPECT_EQ(clocks[0].at("source"), "reference");
  EXPECT_EQ(clocks[1].at("source"), "measured");
  const double uncertainty_us = clocks[1].at("uncertainty_ns").get<double>() / 1000;
  EXPECT_GT(uncertainty_us, 0);
  EXPECT_LT(uncertainty_us, 50'000) << "a round trip on one machine";
  // Every message is sent before it is received, as well as the clocks are known.
  ASSERT_GE(trace.arrows.size(), 400u);
  for (const auto& [id, ends] : trace.arrows) {
    EXPECT_LE(ends.first, ends.second + 2 * uncertainty_us) << "arrow " << id;
    EXPECT_LE(ends.second - ends.first, 5e6) << "arrow " << id;
  }
  const nlohmann::json points = json_of(directory.only("timeline.1."))["weft_timeline"]["clock"];
  EXPECT_EQ(points.size(), 2u) << "at the start and at the end";
  EXPECT_TRUE(json_of(directory.only("timeline.0."))["weft_timeline"]["clock"].empty());
}

TEST(ProcessTimelines, OfAJobThatFailsAreThere) {
  const ScratchDirectory directory;
  ChildProcess run(weft_run({"--devices=3", "--transport=tcp", "--timeline", directory.path(),
                             kMember, "kill", "30", "1"}));
  EXPECT_NE(run.wait(), 0);
  const MergeReport report = merge(directory);
  EXPECT_EQ(report.files, 2);
  const ChromeTrace trace = read_chrome_trace(directory / "merged.json");
  EXPECT_GE(trace.operations, 2 * 29);  // a survivor may still be in its 29th
}

TEST_F(Timelines, WhatDoesNotFitIsCounted) {
  ::setenv(comm::env::kTimelineEvents, "10", 1);
  run_threads(1, [](comm::Communicator& mine) {
    float x = 1;
    for (int k = 0; k < 100; ++k) mine.all_reduce(std::span<float>(&x, 1));
  });
  const MergeReport report = merge(directory_);
  EXPECT_GT(report.dropped, 100u);
  const ChromeTrace trace = read_chrome_trace(directory_ / "merged.json");
  EXPECT_EQ(trace.head.at("weft_merged").at("dropped"), report.dropped);
  ::setenv(comm::env::kTimelineEvents, "many", 1);
  EXPECT_THROW(Communicator::self(), InvalidArgument);
}

TEST_F(Timelines, AreRefusedWithoutTheRecorder) {
  ::setenv(comm::env::kFlightRecorder, "off", 1);
  EXPECT_THROW(Communicator::self(), InvalidArgument);
  ::unsetenv(comm::env::kTimeline);
  auto self = Communicator::self();  // off alone is fine
  float x = 1;
  self.all_reduce(std::span<float>(&x, 1));
  ::unsetenv(comm::env::kFlightRecorder);
}

TEST(TraceCommand, MergesAndShows) {
  const ScratchDirectory directory;
  ChildProcess run(weft_run({"--devices=2", "--transport=tcp", "--timeline", directory.path(),
                             "--flight-recorder", directory.path(), kMember, "kill", "30", "1"}));
  EXPECT_NE(run.wait(), 0);
  ChildProcess merged({bin("weft"), "trace", "merge", directory.path(), "-o", directory / "m"});
  EXPECT_EQ(merged.wait(), 0) << merged.err();
  EXPECT_THAT(merged.out(), ContainsRegex("1 file of 1 rank, [0-9]+ events, 0 arrows"));
  read_chrome_trace(directory / "m");
  ChildProcess shown({bin("weft"), "trace", "show", "-n", "2", directory.path()});
  EXPECT_EQ(shown.wait(), 0) << shown.err();
  EXPECT_THAT(shown.out(), HasSubstr("communicator world of 2 ranks, 1 dumped"));
  EXPECT_THAT(shown.out(), HasSubstr("no dump of its rank 1"));
  EXPECT_THAT(shown.out(), ContainsRegex("all_reduce #[0-9]+, 10000 x f32, max, [a-z_]+: failed"));
}

TEST(TraceCommand, SaysWhatIsWrong) {
  const ScratchDirectory directory;
  const auto error_of = [&](const Arguments& rest) {
    Arguments all{bin("weft"), "trace"};
    all.insert(all.end(), rest.begin(), rest.end());
    ChildProcess run(all);
    EXPECT_NE(run.wait(), 0);
    return run.err();
  };
  EXPECT_THAT(error_of({"merge", directory.path(), "-o", "x"}), HasSubstr("no timeline.*.json"));
  EXPECT_THAT(error_of({"show", directory.path()}), HasSubstr("no flight.*.json"));
  EXPECT_THAT(error_of({"show", directory / "gone.json"}),
              HasSubstr("gone.json: cannot read it: No such file"));
  write_file(directory / "timeline.0.1.1.json", "{\"a\": 1}\n");
  EXPECT_THAT(error_of({"merge", directory.path(), "-o", directory / "x"}),
              HasSubstr("timeline.0.1.1.json, line 1: not the head of a timeline"));
  EXPECT_FALSE(std::filesystem::exists(directory / "x"));
  EXPECT_FALSE(std::filesystem::exists(directory / "x.part"));
}

}  // namespace
}  // namespace weft::test
