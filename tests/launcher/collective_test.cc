// Ranks in the middle of collectives when one of them goes: everyone learns who, soon.
#include <gmock/gmock.h>

#include <chrono>
#include <cstdio>

#include "tests/launcher/child_process.h"
#include "tests/support/soon.h"

namespace weft::test {
namespace {

using testing::HasSubstr;

const std::string kRank = bin("launched_rank_main");

// What the rank that survives printed: how long its last call took, and its error.
struct Learned {
  int rank = -1;
  long long after_ms = -1;
  std::string error;
};

std::vector<Learned> learned(const std::string& out) {
  std::vector<Learned> all;
  for (const auto& line : ChildProcess::lines(out)) {
    Learned one;
    int error_at = 0;
    const auto at = line.find("rank ", line.rfind("] ") == std::string::npos ? 0 : line.find("] "));
    if (at != std::string::npos &&
        std::sscanf(line.c_str() + at, "rank %d learned after %lld ms: %n", &one.rank,
                    &one.after_ms, &error_at) == 2) {
      one.error = line.substr(at + static_cast<std::size_t>(error_at));
      all.push_back(one);
    }
  }
  return all;
}

TEST(Collectives, RunUnderWeftRun) {
  ChildProcess job(weft_run({"--devices=4", kRank, "end"}));
  EXPECT_EQ(job.wait(), 0) << job.err();
  for (int rank = 0; rank < 4; ++rank) {
    EXPECT_THAT(job.out(), HasSubstr("rank " + std::to_string(rank) + " of 4 done, value 1"));
  }
  EXPECT_EQ(job.err(), "");
}

struct Fate {
  const char* name;
  int exit_code;
  const char* what;     // as the others are told
  bool silent = false;  // found by missed heartbeats
};
void PrintTo(const Fate& fate, std::ostream* out) { *out << fate.name; }

class Fates : public testing::TestWithParam<Fate> {};

TEST_P(Fates, EveryOtherRankLearnsWhoAndWhy) {
  const Fate& fate = GetParam();
  ChildProcess job(weft_run({"--devices=3", "--grace-time=5", kRank, fate.name, "1"}));
  EXPECT_EQ(job.wait(), fate.exit_code) << job.err();
  const auto others = learned(job.out());
  EXPECT_EQ(others.size(), 2u) << job.out();
  for (const auto& other : others) {
    EXPECT_LT(std::chrono::milliseconds(other.after_ms), tests::kSoon) << other.error;
    EXPECT_EQ(other.error.find("silent") != std::string::npos, fate.silent) << other.error;
    EXPECT_THAT(other.error, HasSubstr("rank 1"));
    EXPECT_THAT(other.error, HasSubstr(fate.what));
  }
  EXPECT_THAT(job.err(), HasSubstr("weft: rank 1 (host ")) << job.out();
}

INSTANTIATE_TEST_SUITE_P(All, Fates,
                         testing::Values(Fate{"exit", 3, "exited with code 3"},
                                         Fate{"kill", 137, "killed by signal 9"},
                                         Fate{"throw", 4, ""}, Fate{"leave", 1, ""},
                                         Fate{"stop", 1, "", true}));

// --- Ranks that the program starts itself.

Arguments here(const Arguments& rest) {
  Arguments all{kRank, "--here=3"};
  all.insert(all.end(), rest.begin(), rest.end());
  return all;
}

TEST(Spawn, StartsTheOthersAndWaitsForThem) {
  ChildProcess job(here({"end"}));
  EXPECT_EQ(job.wait(), 0) << job.err();
  for (int rank = 0; rank < 3; ++rank) {
    EXPECT_THAT(job.out(), HasSubstr("rank " + std::to_string(rank) + " of 3 done, value 1\n"));
  }
  EXPECT_EQ(job.err(), "");
}

TEST(Spawn, AFailingChildIsNamedAndItsCodeBecomesOurs) {
  ChildProcess job(here({"exit", "2"}));
  EXPECT_EQ(job.wait(), 3) << job.err();
  EXPECT_EQ(learned(job.out()).size(), 2u) << job.out();
  for (const auto& other : learned(job.out())) {
    EXPECT_THAT(other.error, HasSubstr("rank 2"));
    EXPECT_THAT(other.error, HasSubstr("exited with code 3"));
  }
  EXPECT_THAT(job.err(), HasSubstr("weft: rank 2 (host "));
}

TEST(Spawn, TheCodeOfAChildThatFailsAfterRankZeroHasEnded) {
  ChildProcess job(here({"status", "1", "9"}));
  EXPECT_EQ(job.wait(), 9) << job.err();
}

TEST(Spawn, RankZerosOwnFailureKeepsItsCode) {
  ChildProcess job(here({"status", "0", "6"}));
  EXPECT_EQ(job.wait(), 6) << job.err();
}

TEST(Spawn, WaitingForChildrenIsBounded) {
  ChildProcess job(here({"late", "1"}));
  EXPECT_EQ(job.wait(), 1) << job.err();
  EXPECT_LT(job.seconds(), 15);
  EXPECT_THAT(job.err(), HasSubstr("stopping the other ranks"));
}

TEST(Spawn, ChildrenDieWithRankZero) {
  ChildProcess job(here({"orphan"}));
  ASSERT_TRUE(job.wait_for_lines(3));
  job.kill(SIGKILL);
  for (const auto& line : ChildProcess::lines(job.out())) {
    int pid = 0;
    ASSERT_EQ(std::sscanf(line.c_str(), "family %d", &pid), 1) << line;
    EXPECT_TRUE(ends_within(pid, std::chrono::seconds(5)));
  }
}

}  // namespace
}  // namespace weft::test
