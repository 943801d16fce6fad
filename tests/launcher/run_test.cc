// `weft run` on one node: what ranks see, what becomes of their output, and how a job ends.
#include <gmock/gmock.h>

#include <algorithm>
#include <set>

#include "tests/launcher/child_process.h"

namespace weft::test {
namespace {

using testing::ContainsRegex;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::UnorderedElementsAre;

const std::string kRank = bin("rank_main");

TEST(Run, RanksKnowTheirPlace) {
  ChildProcess job(weft_run({"--devices=2", "sh", "-c",
                             "echo $RANK $WEFT_RANK $LOCAL_RANK $WORLD_SIZE $LOCAL_WORLD_SIZE "
                             "$NODE_RANK $GROUP_RANK $MASTER_ADDR; test $MASTER_PORT -gt 0 && "
                             "test ${#WEFT_JOB_ID} -gt 8"}),
                   {{"RANK", "17"}, {"WEFT_JOB_ID", ""}});
  EXPECT_EQ(job.wait(), 0);
  EXPECT_THAT(
      ChildProcess::lines(job.out()),
      UnorderedElementsAre("[rank 0] 0 0 0 2 2 0 0 127.0.0.1", "[rank 1] 1 1 1 2 2 0 0 127.0.0.1"));
}

TEST(Run, SecretComesByDescriptorOnly) {
  ChildProcess job(weft_run({"--devices=2", "sh", "-c",
                             "s=$(cat /proc/self/fd/$WEFT_SECRET_FD); test ${#s} = 64 && "
                             "! env | grep -q \"$s\" && ! tr '\\0' ' ' </proc/$PPID/cmdline | grep "
                             "-q \"$s\" && echo \"$s\""}));
  EXPECT_EQ(job.wait(), 0) << job.err();
  ChildProcess bare({kRank, "descriptors"});  // what everything here inherits
  ChildProcess list(weft_run({kRank, "descriptors"}));
  EXPECT_EQ(bare.wait(), 0);
  EXPECT_EQ(list.wait(), 0);
  EXPECT_EQ(ChildProcess::lines(list.out()).size(), ChildProcess::lines(bare.out()).size() + 1)
      << "more than the secret:\n"
      << list.out();
}

TEST(Run, ThreadsAreSharedOutUnlessTheUserSaid) {
  const Arguments command = weft_run(
      {"--devices=64", "--no-prefix", "sh", "-c", "echo $WEFT_NUM_THREADS $OMP_NUM_THREADS"});
  const auto values = [&](const std::map<std::string, std::string>& environment) {
    ChildProcess job(command, environment);
    EXPECT_EQ(job.wait(), 0);
    const auto lines = ChildProcess::lines(job.out());
    return std::set<std::string>(lines.begin(), lines.end());
  };
  EXPECT_THAT(values({{"OMP_NUM_THREADS", ""}, {"WEFT_NUM_THREADS", ""}}), ElementsAre("1 1"));
  EXPECT_THAT(values({{"OMP_NUM_THREADS", "5"}, {"WEFT_NUM_THREADS", ""}}), ElementsAre("5 5"));
  EXPECT_THAT(values({{"OMP_NUM_THREADS", "5"}, {"WEFT_NUM_THREADS", "3"}}), ElementsAre("3 5"));
}

TEST(Run, BindingIsInForce) {
  ChildProcess free(weft_run({"--bind=none", "nproc"}));
  ChildProcess bound(weft_run({"--bind=core", "--devices=2", "--no-prefix", "grep",
                               "Cpus_allowed_list", "/proc/self/status"}));
  EXPECT_EQ(free.wait(), 0);
  EXPECT_EQ(bound.wait(), 0);
  const auto lines = ChildProcess::lines(bound.out());
  ASSERT_EQ(lines.size(), 2u);
  if (std::stoi(free.out()) >= 2) {
    EXPECT_NE(lines[0], lines[1]);
  }
}

TEST(Run, StandardInputGoesToRankZero) {
  ChildProcess job(weft_run({"--devices=3", kRank, "cat"}), {}, "one\ntwo\n");
  EXPECT_EQ(job.wait(), 0);
  EXPECT_THAT(ChildProcess::lines(job.out()),
              UnorderedElementsAre("[rank 0] one", "[rank 0] two", "[rank 0] eof", "[rank 1] eof",
                                   "[rank 2] eof"));
}

TEST(Run, OneRankKeepsItsOutputAsItIs) {
  ChildProcess job(weft_run({kRank, "text", "10%\r20%\rno end"}));
  EXPECT_EQ(job.wait(), 0);
  EXPECT_EQ(job.out(), "10%\r20%\rno end");
  EXPECT_EQ(job.err(), "");
}

TEST(Run, LastLinesAndRewrittenLinesOfSeveralRanks) {
  ChildProcess job(weft_run({"--devices=2", kRank, "text", "10%\r20%\rno end"}));
  EXPECT_EQ(job.wait(), 0);
  EXPECT_THAT(ChildProcess::lines(job.out()),
              UnorderedElementsAre("[rank 0] no end", "[rank 1] no end"));
}

TEST(Run, EndlessLinesAreBounded) {
  ChildProcess job(weft_run({"--devices=2", "--no-prefix", kRank, "long"}));
  EXPECT_EQ(job.wait(), 0);
  std::size_t total = 0;
  for (const auto& line : ChildProcess::lines(job.out())) {
    EXPECT_LE(line.size(), 65536u);
    total += line.size();
  }
  EXPECT_EQ(total, 400000u);
}

// Eight ranks write 20,000 lines each, in pieces that end anywhere.
TEST(Run, NoLineIsTornOrLost) {
  constexpr int kRanks = 8;
  constexpr int kLines = 10000;  // on each of standard output and error
  ChildProcess job(
      weft_run({"--devices=" + std::to_string(kRanks), kRank, "lines", std::to_string(kLines)}));
  EXPECT_EQ(job.wait(std::chrono::seconds(60)), 0);
  for (const std::string name : {"out", "err"}) {
    const auto lines = ChildProcess::lines(name == "out" ? job.out() : job.err());
    ASSERT_EQ(lines.size(), static_cast<std::size_t>(kRanks * kLines)) << name;
    std::vector<int> next(kRanks, 0);
    for (const auto& line : lines) {
      int prefix = -1;
      int rank = -1;
      int number = -1;
      char kind[8] = {};
      ASSERT_EQ(
          std::sscanf(line.c_str(), "[rank %d] %3s %d line %d", &prefix, kind, &rank, &number), 4)
          << line;
      ASSERT_EQ(prefix, rank) << line;
      ASSERT_EQ(kind, name) << line;
      ASSERT_EQ(number, next[static_cast<std::size_t>(rank)]++) << line;
      const std::string tail =
          std::string(static_cast<std::size_t>(number * 7919 % 97), 'x') + " end";
      ASSERT_TRUE(line.ends_with(" " + tail)) << line;
    }
  }
}

TEST(Run, ExitCodeAndReportOfTheFirstFailure) {
  ChildProcess job(weft_run({"--devices=3", "--grace-time=0.1", kRank, "exit", "1", "7"}));
  EXPECT_EQ(job.wait(), 7);
  EXPECT_LT(job.seconds(), 15);
  EXPECT_THAT(job.err(), ContainsRegex("weft: rank 1 \\(host [^,]+, pid [0-9]+\\) exited with code "
                                       "7 after [0-9.]+ s"));
  EXPECT_THAT(job.err(), HasSubstr("the last 20 lines of its standard error"));
  EXPECT_THAT(job.err(), HasSubstr("weft:   | complaint 29\n"));
  EXPECT_THAT(job.err(), HasSubstr("weft:   | complaint 10\n"));
  EXPECT_THAT(job.err(), Not(HasSubstr("weft:   | complaint 9\n")));
}

TEST(Run, SignalsBecome128Plus) {
  for (const int number : {SIGKILL, SIGABRT, SIGSEGV}) {
    ChildProcess job(weft_run(
        {"--devices=2", "--grace-time=0.1", kRank, "signal", "0", std::to_string(number)}));
    EXPECT_EQ(job.wait(), 128 + number);
    EXPECT_THAT(job.err(), HasSubstr("killed by signal " + std::to_string(number) + " (SIG"));
  }
  ChildProcess alone(weft_run({kRank, "signal", "0", "9"}));
  EXPECT_EQ(alone.wait(), 137);
}

TEST(Run, ARankMayEndEarly) {
  ChildProcess job(
      weft_run({"--devices=3", "sh", "-c", "test $RANK = 0 || exit 0; cat; echo last"}), {}, "");
  EXPECT_EQ(job.wait(), 0);
  EXPECT_EQ(job.out(), "[rank 0] last\n");
}

TEST(Run, StubbornRanksAreKilledAfterTheGraceTime) {
  ChildProcess job(weft_run({"--devices=2", "--grace-time=0.2", "sh", "-c",
                             "test $RANK = 1 && exit 5; exec " + kRank + " stubborn"}));
  EXPECT_EQ(job.wait(), 5);
  EXPECT_LT(job.seconds(), 15);
}

class Signals : public testing::TestWithParam<int> {};

TEST_P(Signals, ArePassedOnAndGiveTheExitCode) {
  ChildProcess job(
      weft_run({"--devices=2", "--grace-time=20", kRank, "polite", std::to_string(GetParam())}));
  ASSERT_TRUE(job.wait_for_lines(2));
  job.kill(GetParam());
  EXPECT_EQ(job.wait(), 128 + GetParam());
  EXPECT_THAT(job.out(), HasSubstr("[rank 0] asked by " + std::to_string(GetParam())));
  EXPECT_THAT(job.out(), HasSubstr("[rank 1] asked by " + std::to_string(GetParam())));
  EXPECT_LT(job.seconds(), 15);
}
INSTANTIATE_TEST_SUITE_P(All, Signals, testing::Values(SIGINT, SIGTERM, SIGHUP));

TEST(Run, UserSignalsArePassedOnWithoutEndingTheJob) {
  ChildProcess job(weft_run({"--devices=2", kRank, "polite", std::to_string(SIGUSR1)}));
  ASSERT_TRUE(job.wait_for_lines(2));
  job.kill(SIGUSR1);
  EXPECT_EQ(job.wait(), 0);
}

TEST(Run, SecondInterruptKillsAtOnce) {
  ChildProcess job(weft_run({"--devices=2", "--grace-time=600", kRank, "stubborn"}));
  ASSERT_TRUE(job.wait_for_lines(2));
  job.kill(SIGINT);
  ASSERT_TRUE(job.wait_for_error("SIGINT: passed on to 2 ranks"));
  job.kill(SIGINT);
  EXPECT_EQ(job.wait(), 128 + SIGINT);
  EXPECT_LT(job.seconds(), 15);
}

// pid of each rank and of its child
std::vector<pid_t> family_of(const std::string& out) {
  std::vector<pid_t> pids;
  for (const auto& line : ChildProcess::lines(out)) {
    int rank = 0;
    int parent = 0;
    int child = 0;
    if (std::sscanf(line.c_str(), "[rank %d] family %d %d", &rank, &parent, &child) != 3) continue;
    pids.push_back(parent);
    pids.push_back(child);
  }
  return pids;
}

TEST(Orphans, NoneWhenTheLauncherIsKilled) {
  ChildProcess job(weft_run({"--devices=2", kRank, "family"}));
  ASSERT_TRUE(job.wait_for_lines(2));
  const auto pids = family_of(job.out());
  ASSERT_EQ(pids.size(), 4u);
  job.kill(SIGKILL);
  for (const pid_t pid : pids) {
    EXPECT_TRUE(ends_within(pid, std::chrono::seconds(5))) << pid;
  }
  EXPECT_EQ(job.wait(), 137);
}

TEST(Orphans, GrandchildrenEndWithTheJob) {
  ChildProcess job(weft_run({"--devices=2", "--grace-time=0.1", kRank, "family"}));
  ASSERT_TRUE(job.wait_for_lines(2));
  const auto pids = family_of(job.out());
  ASSERT_EQ(pids.size(), 4u);
  ::kill(pids[0], SIGKILL);  // one of the ranks
  EXPECT_EQ(job.wait(), 128 + SIGKILL);
  for (const pid_t pid : pids) {
    EXPECT_TRUE(ends_within(pid, std::chrono::seconds(5))) << pid;
  }
}

TEST(Run, AReaderThatGoesAwayEndsTheJob) {
  ChildProcess job({"sh", "-c",
                    bin("weft") + " run --quiet --devices=2 --grace-time=0.2 sh -c 'while true; do "
                                  "echo y; done' | head -n 1"});
  EXPECT_EQ(job.wait(), 0);
  EXPECT_EQ(ChildProcess::lines(job.out()).size(), 1u);
}

}  // namespace
}  // namespace weft::test
