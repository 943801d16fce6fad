// Ranks that are processes, and die: every survivor names the one that did, and soon.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "tests/comm/process.h"
#include "tests/support/sanitized.h"
#include "tests/support/soon.h"

namespace weft::comm {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::Process;

class Processes : public ::testing::TestWithParam<testing::Backend> {
 protected:
  Process member(int rank, const std::string& deed, int turn) {
    return {job_.options(rank), secret_, {"comm_member_main", deed, std::to_string(turn)}};
  }

  // Rank 2 of 4 does `deed` as its 30th collective; the others say "ready" at their 20th, because
  // one may still be in its 29th by then.
  void expect_named(const std::string& deed, const std::string& what) {
    std::vector<Process> ranks;
    for (int r = 0; r < 4; ++r) {
      ranks.push_back(member(r, r == 2 ? deed : "work", r == 2 ? 30 : 20));
    }
    ASSERT_TRUE(ranks[0].says("ready", milliseconds(20'000))) << ranks[0].said();
    const auto begun = steady_clock::now();
    for (const std::size_t r : {0u, 1u, 3u}) {
      EXPECT_TRUE(ranks[r].says("thrown: ", milliseconds(10'000))) << "rank " << r;
      EXPECT_LT(steady_clock::now() - begun, tests::kSoon) << "rank " << r;
      EXPECT_TRUE(ranks[r].says("\n", milliseconds(1000)));
      EXPECT_THAT(ranks[r].said(), HasSubstr("rank 2"));
      EXPECT_THAT(ranks[r].said(), HasSubstr(fmt::format("pid {}", ranks[2].pid())));
      EXPECT_THAT(ranks[r].said(), HasSubstr(what));
      EXPECT_THAT(ranks[r].said(), Not(HasSubstr("silent"))) << "found by missed heartbeats";
    }
  }

  // Rank 2 of 4 gets no memory for its 5th collective; all fail with that.
  void expect_starved(const std::string& deed) {
    std::vector<Process> ranks;
    for (int r = 0; r < 4; ++r) {
      ranks.push_back(member(r, r == 2 ? deed + " starving" : deed, 5));
    }
    for (Process& rank : ranks) {
      EXPECT_TRUE(rank.says("thrown: ", milliseconds(20'000))) << rank.said();
      EXPECT_TRUE(rank.says("\n", milliseconds(1000)));
      EXPECT_THAT(rank.said(), HasSubstr("rank 2"));
      EXPECT_THAT(rank.said(), HasSubstr("cannot"));
      EXPECT_THAT(rank.said(), HasSubstr("all_reduce #6, 33554432 x u8"));
    }
  }

  testing::TestJob job_{4, GetParam()};
  testing::SecretFd secret_{job_.identity().secret};
};

TEST_P(Processes, ARankKilledOutrightIsNamed) { expect_named("kill", "all_reduce #"); }
TEST_P(Processes, ARankThatExitsIsNamed) { expect_named("exit", "all_reduce #"); }
TEST_P(Processes, ARankThatThrowsIsNamed) { expect_named("throw", "exception"); }

// The launcher reports how the process exited as soon as it has: that comes too late to win.
TEST_P(Processes, AnAbortIsNotHiddenByTheExitThatFollows) {
  std::vector<Process> ranks;
  for (int r = 0; r < 4; ++r) {
    ranks.push_back(member(r, r == 2 ? "abort" : "work", 5));
  }
  ranks[2].wait_for_exit();
  Failure exited;
  exited.source = Failure::Source::agent;
  exited.rank = 2;
  exited.what = "exited with code 3";
  job_.server().report(exited);
  for (const std::size_t r : {0u, 1u, 3u}) {
    EXPECT_TRUE(ranks[r].says("thrown: ", milliseconds(10'000))) << "rank " << r;
    EXPECT_TRUE(ranks[r].says("\n", milliseconds(1000)));
    EXPECT_THAT(ranks[r].said(), HasSubstr("rank 2"));
    EXPECT_THAT(ranks[r].said(), HasSubstr("the loss is not a number"));
  }
}

TEST_P(Processes, AForkedChildLeavesTheJobAlone) {
  std::vector<Process> ranks;
  for (int r = 0; r < 4; ++r) ranks.push_back(member(r, r == 2 ? "work fork" : "work", 5));
  EXPECT_TRUE(ranks[2].says("went on", milliseconds(20'000))) << ranks[2].said();
  for (const auto& rank : ranks) EXPECT_THAT(rank.said(), Not(HasSubstr("thrown")));
}

// On shared memory a collective needs no more of it than there is from the start.
class Starved : public Processes {
 protected:
  void SetUp() override {
    if (tests::kSanitized) GTEST_SKIP() << "a sanitizer ends the process where memory is out";
  }
};
TEST_P(Starved, ARankWithoutMemoryFailsAll) { expect_starved("need"); }
TEST_P(Starved, ARankWithoutMemoryFailsAllAsync) { expect_starved("need async"); }

INSTANTIATE_TEST_SUITE_P(Transports, Processes,
                         ::testing::Values(testing::shm_backend(), testing::Backend{"tcp", true}),
                         [](const auto& param_info) { return param_info.param.name; });
INSTANTIATE_TEST_SUITE_P(Transports, Starved, ::testing::Values(testing::Backend{"tcp", true}),
                         [](const auto& param_info) { return param_info.param.name; });

}  // namespace
}  // namespace weft::comm
