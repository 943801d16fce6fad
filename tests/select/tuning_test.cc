// Tuning files, what they decide, and the fit that writes them.
#include "comm/select/tuning.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cmath>
#include <cstdio>
#include <random>

#include "comm/algorithms/algorithms.h"
#include "comm/select/explain.h"
#include "comm/select/fit.h"
#include "comm/select/tuning_file.h"
#include "kernels/base/error.h"
#include "tests/support/scratch.h"

namespace weft::comm {
namespace {

using testing::HasSubstr;

TEST(Tuning, AFileSaysWhatWasWritten) {
  Tuning tuning;
  tuning.host = "node7";
  tuning.cores = 8;
  tuning.ranks = 4;
  tuning.tcp = {1e-5, 2e-6, 1e-9, 3e-10};
  tuning.shared.wait_crowded = 9e-6;
  tuning.measured = {{Medium::tcp, Collective::all_reduce, 4, {{1024, "tree"}, {4096, "ring"}}}};
  const Tuning back = parse_tuning(format_tuning(tuning), "x.json");
  EXPECT_EQ(back.source, "x.json");
  EXPECT_EQ(back.host, "node7");
  EXPECT_NEAR(back.tcp.per_byte, 1e-9, 1e-20);
  EXPECT_NEAR(back.shared.wait_crowded, 9e-6, 1e-15);
  EXPECT_EQ(back.measured, tuning.measured);
}

TEST(Tuning, DamagedFilesNameLineAndField) {
  const std::vector<std::array<std::string, 3>> damaged = {
      {"{\n\"host\": \"x\"}", "line 1", "weft_tuning"},
      {"{\"weft_tuning\": 2}", "/weft_tuning", "1 to 1"},
      {"{\"weft_tuning\": 1,\n\"tpc\": {}}", "line 2", "/tpc"},
      {"{\"weft_tuning\": 1,\n\"tcp\": {\n\"latency_us\": -1}}", "line 3", "/tcp/latency_us"},
      {"{\"weft_tuning\": 1,\n\"tcp\": {\"gbyte_s\": 0}}", "line 2", "/tcp/gbyte_s"},
      {"{\"weft_tuning\": 1,\n\"shm\": {\"wait_us\": \"2\"}}", "line 2", "/shm/wait_us"},
      {"{\"weft_tuning\": 1,\n\"cores\": 1.5}", "line 2", "/cores"},
      {"{\"weft_tuning\": 1,\n\"host\": 7}", "line 2", "/host"},
      {"{\"weft_tuning\": 1,\n\"tile_bytes\": 3}", "line 2", "/tile_bytes"},
      {"{\"weft_tuning\": 1,\n\"weft_tuning\": 1}", "line 2", "second time"},
      {"{\"weft_tuning\": 1,\n", "line", "no JSON"},
      {"{\"weft_tuning\": 1,\n\"measured\": [{}]}", "line 2", "transport"},
      {"{\"weft_tuning\": 1,\n\"a/b\": 3}", "line 2", "/a~1b"},
  };
  for (const auto& [text, line, field] : damaged) {
    try {
      parse_tuning(text, "x.json");
      ADD_FAILURE() << "accepted: " << text;
    } catch (const InvalidArgument& error) {
      EXPECT_THAT(error.what(), HasSubstr("x.json, " + (line[0] == 'l' ? line : "line")));
      EXPECT_THAT(error.what(), HasSubstr(line));
      EXPECT_THAT(error.what(), HasSubstr(field));
    }
  }
}

TEST(Tuning, APipeIsNoFile) {
  const auto pipe = tests::scratch("tuning.pipe");  // nobody writes to it
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THROW(read_tuning_text(pipe), IoError);
  EXPECT_THROW(read_tuning_text("/dev/zero"), IoError);
  std::remove(pipe.c_str());
}

TEST(Tuning, DamagedTablesNameLineAndField) {
  const auto refused = [](const std::string& table) -> std::string {
    try {
      parse_tuning("{\"weft_tuning\": 1, \"measured\": [\n" + table + "]}", "x.json");
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    return "accepted";
  };
  const auto table = [](const std::string& medium, const std::string& collective,
                        const std::string& ranks, const std::string& choices) {
    return "{\"transport\": \"" + medium + "\", \"collective\": \"" + collective +
           "\", \"ranks\": " + ranks + ", \"choices\": [" + choices + "]}";
  };
  const std::string ring = R"({"up_to_bytes": 8, "algorithm": "ring"})";
  EXPECT_EQ(refused(table("tcp", "all_reduce", "4", ring)), "accepted");
  EXPECT_THAT(refused(table("udp", "all_reduce", "4", ring)), HasSubstr("/measured/0/transport"));
  EXPECT_THAT(refused(table("tcp", "reduce_all", "4", ring)), HasSubstr("/measured/0/collective"));
  EXPECT_THAT(refused(table("tcp", "all_reduce", "1", ring)), HasSubstr("/measured/0/ranks"));
  EXPECT_THAT(refused(table("tcp", "all_reduce", "4", "")), HasSubstr("choices"));
  EXPECT_THAT(refused(table("tcp", "all_reduce", "4", ring + ", " + ring)),
              HasSubstr("line 2, field /measured/0/choices/1/up_to_bytes: sizes must rise"));
  EXPECT_THAT(
      refused(table("tcp", "all_reduce", "4", R"({"up_to_bytes": 8, "algorithm": "bush"})")),
      HasSubstr("/measured/0/choices/0/algorithm"));
  EXPECT_THAT(
      refused(table("tcp", "all_reduce", "4", R"({"up_to_bytes": -8, "algorithm": "ring"})")),
      HasSubstr("/measured/0/choices/0/up_to_bytes"));
  EXPECT_THAT(refused(table("tcp", "all_reduce", "4", ring) + ",\n" +
                      table("tcp", "all_reduce", "4", ring)),
              HasSubstr("line 3, field /measured/1"));
}

TEST(Tuning, WhatWasMeasuredWinsUpToItsLastSize) {
  const Problem problem{Collective::all_reduce, 0, 4, 0};
  Tuning tuning;
  const auto built_in = choose(problem, Bytes(1 << 20)).algorithm;
  tuning.measured = {{Medium::tcp, Collective::all_reduce, 4, {{1024, "tree"}, {4096, "ring"}}}};
  const auto at = [&](std::int64_t bytes, Medium medium = Medium::tcp) {
    return choose(problem, Bytes(bytes), 1, medium, tuning).algorithm;
  };
  EXPECT_EQ(at(0), "tree");
  EXPECT_EQ(at(1024), "tree");
  EXPECT_EQ(at(1025), "ring");
  EXPECT_EQ(at(1 << 20), built_in);
  EXPECT_EQ(at(8, Medium::network), choose(problem, Bytes(8), 1, Medium::network).algorithm);
  const auto told = explain(problem, Bytes(512), tuning, Medium::tcp, false);
  EXPECT_EQ(told.choice.algorithm, "tree");
  EXPECT_THAT(told.rule, HasSubstr("measured"));
}

TEST(Tuning, OneShotIsForSmallSizesAndStaysSmall) {
  for (const int n : {2, 3, 4, 8, 64}) {
    for (const bool crowded : {false, true}) {
      bool one_shot = true;
      for (std::int64_t bytes = 8; bytes <= 64 << 20; bytes *= 2) {
        const bool now =
            choose_on_memory({Collective::all_reduce, 0, n, 0}, Bytes(bytes), crowded) == "direct";
        EXPECT_TRUE(one_shot || !now) << n << " ranks, " << bytes;
        one_shot = now;
      }
      EXPECT_FALSE(one_shot);
    }
  }
}

TEST(Tuning, ExplainsEveryCandidate) {
  for (const Medium medium : {Medium::memory, Medium::tcp}) {
    const Problem problem{Collective::all_reduce, 0, 4, 0};
    const auto told = explain(problem, Bytes(64 << 20), Tuning(), medium, true);
    EXPECT_EQ(told.candidates.size(), algorithms().size());
    for (const Candidate& candidate : told.candidates) {
      EXPECT_FALSE(candidate.why.empty()) << candidate.algorithm;
      const bool chosen = candidate.algorithm == told.choice.algorithm;
      EXPECT_EQ(candidate.why.starts_with("chosen"), chosen) << candidate.algorithm;
    }
  }
}

TEST(TuningFit, FindsTheLinksBehindNoisyTimes) {
  const LinkCosts truth{20e-6, 8e-6, 1 / 1e9, 1 / 4e9};
  std::mt19937 random(1);
  std::uniform_real_distribution<double> noise(0.95, 1.05);
  std::vector<Sample> samples;
  for (const Collective collective : {Collective::all_reduce, Collective::all_gather}) {
    for (std::int64_t bytes = 64; bytes <= 16 << 20; bytes *= 4) {
      for (const Algorithm& algorithm : algorithms()) {
        const Problem problem{collective, 0, 4, 0};
        if (algorithm.name == "hierarchical" || !algorithm.supports(problem)) continue;
        const double seconds = expected_seconds(algorithm.name, problem, Bytes(bytes), truth);
        samples.push_back({algorithm.name, problem, Bytes(bytes), seconds * noise(random)});
      }
    }
  }
  // Disturbed, another algorithm each time.
  for (std::size_t i = 3; i < samples.size(); i += 17) samples[i].seconds *= 8;
  const LinkCosts fit = fit_links(samples, kSocketCosts);
  EXPECT_NEAR(fit.latency / truth.latency, 1, 0.25);
  EXPECT_NEAR(fit.per_message / truth.per_message, 1, 0.25);
  EXPECT_NEAR(fit.per_byte / truth.per_byte, 1, 0.15);
  EXPECT_NEAR(fit.per_byte_reduce / truth.per_byte_reduce, 1, 0.25);
  EXPECT_LT(error_of(samples, fit).median, 0.08);
}

TEST(TuningFit, FindsTheCostsOfSharedMemory) {
  const SharedCosts truth{1e-6, 20e-6, 1 / 3e9, 1 / 12e9, 1 / 5e9};
  std::vector<Sample> samples;
  for (std::int64_t bytes = 64; bytes <= 16 << 20; bytes *= 4) {
    const Problem problem{Collective::all_reduce, 0, 4, 0};
    const auto add = [&](std::string_view name, bool registered) {
      samples.push_back(
          {name, problem, Bytes(bytes),
           expected_seconds_on_memory(name, problem, Bytes(bytes), true, truth, registered),
           registered});
    };
    add("direct", false);
    add("two_shot", false);
    add("two_shot", true);
  }
  const SharedCosts fit = fit_shared(samples, true, kSharedCosts);
  EXPECT_NEAR(fit.wait_crowded / truth.wait_crowded, 1, 0.1);
  EXPECT_EQ(fit.wait, kSharedCosts.wait);
  EXPECT_NEAR(fit.per_byte_stage / truth.per_byte_stage, 1, 0.15);
  EXPECT_NEAR(fit.per_byte_reduce / truth.per_byte_reduce, 1, 0.15);
}

}  // namespace
}  // namespace weft::comm
