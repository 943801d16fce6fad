// What ranks leave behind: dumps of the flight recorder on failures and signals.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/stat.h>

#include <atomic>
#include <csignal>
#include <thread>

#include "comm/communicator.h"
#include "comm/environment.h"
#include "comm/trace/flight_file.h"
#include "tests/launcher/child_process.h"
#include "tests/support/sanitized.h"
#include "tests/trace/files.h"

namespace weft::test {
namespace {

using comm::trace::FlightDump;
using comm::trace::read_flight_dump;
using comm::trace::State;
using std::chrono::seconds;
using ::testing::AnyOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Not;

Arguments job(const ScratchDirectory& directory, const Arguments& rest) {
  Arguments all{"--flight-recorder", directory.path(), "--transport=tcp", "--grace-time=5"};
  all.insert(all.end(), rest.begin(), rest.end());
  return weft_run(all);
}

const std::string kMember = bin("trace_member_main");

TEST(FlightRecorder, SurvivorsOfAKilledRankDump) {
  const ScratchDirectory directory;
  ChildProcess run(job(directory, {"--devices=3", kMember, "kill", "30", "1"}));
  EXPECT_NE(run.wait(), 0);
  for (const int rank : {0, 2}) {
    const auto file = directory.only(fmt::format("flight.{}.", rank));
    ASSERT_NE(file, "") << run.err();
    const FlightDump dump = read_flight_dump(file);
    EXPECT_EQ(dump.rank, rank);
    EXPECT_GT(dump.pid, 0);
    EXPECT_NE(dump.host, "");
    ASSERT_EQ(dump.communicators.size(), 1u);
    const auto& world = dump.communicators[0];
    EXPECT_EQ(world.name, "world");
    EXPECT_EQ(world.world_size, 3);
    EXPECT_THAT(world.failure, HasSubstr("rank 1"));
    EXPECT_THAT(run.out(), HasSubstr(world.failure)) << "what was thrown and what was dumped";
    ASSERT_GE(world.operations.size(), 29u);
    std::int64_t sequence = 0;
    for (const auto& operation : world.operations) {
      EXPECT_EQ(operation.sequence, ++sequence);
      EXPECT_EQ(operation.kind, "all_reduce");
      EXPECT_EQ(operation.dtype, "f32");
      EXPECT_EQ(operation.op, "max");
      EXPECT_NE(operation.algorithm, "");
      EXPECT_EQ(operation.count, 10'000);
      EXPECT_EQ(operation.bytes, 40'000);
      EXPECT_LE(operation.start_ns, *operation.end_ns);
      EXPECT_LE(*operation.end_ns, dump.written_ns);
      EXPECT_GT(operation.steps, 0);
      EXPECT_EQ(operation.state == State::complete, operation.steps_done == operation.steps);
    }
    // Rank 1 dies before its 30th: the others are in that one, or in the end of the one before, or
    // hear of it between the two.
    const auto& last = world.operations.back();
    EXPECT_LE(last.sequence, 30);
    EXPECT_THAT(last.state, AnyOf(State::failed, State::complete));
    if (last.state == State::complete) {
      EXPECT_EQ(last.sequence, 29);
    }
  }
  EXPECT_TRUE(directory.files("flight.1.").empty()) << "nobody writes after SIGKILL";
}

// Rank 0 is stuck, because rank 1 does not come.
TEST(FlightRecorder, ASignalDumpsARankThatIsStuckAndItGoesOn) {
  const ScratchDirectory directory;
  const Arrivals arrivals(directory.path());
  const std::string fifo = directory / "go";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  // Rank 1's standard input is what it waits for.
  ChildProcess run(job(directory, {"--devices=2", "--no-prefix", "sh", "-c",
                                   "exec \"$0\" linger 6 1 9 <>" + fifo, kMember}));
  ASSERT_TRUE(run.wait_for_lines(3));
  pid_t stuck = 0;
  for (const std::string& line : ChildProcess::lines(run.out())) {
    if (line.ends_with(" rank 0")) stuck = std::stoi(line.substr(4));
  }
  ASSERT_GT(stuck, 0) << run.out();
  const std::string file = directory / fmt::format("flight.0.{}.json", stuck);
  const auto deadline = Clock::now() + seconds(20);
  bool running = false;
  while (!running && Clock::now() < deadline) {  // it may be on its way there yet
    ::kill(stuck, SIGUSR2);
    ASSERT_TRUE(arrivals.wait(seconds(10))) << "no dump\n" << run.err();
    const FlightDump dump = read_flight_dump(file);
    EXPECT_EQ(dump.reason, "SIGUSR2");
    EXPECT_TRUE(dump.by_signal);
    const auto& operations = dump.communicators.at(0).operations;
    if (operations.size() < 6) continue;
    const auto& last = operations.back();
    EXPECT_EQ(last.sequence, 6);
    running = last.state == State::running;
    if (!running) continue;
    EXPECT_LT(last.steps_done, last.steps);
    EXPECT_FALSE(last.end_ns.has_value());
    EXPECT_EQ(operations[4].state, State::complete);
    EXPECT_EQ(dump.communicators[0].failure, "");
  }
  EXPECT_TRUE(running) << contents(file);
  ChildProcess go({"sh", "-c", "echo > " + fifo});
  EXPECT_EQ(go.wait(), 0);
  EXPECT_EQ(run.wait(), 0) << run.err();  // it went on, and ended well
  EXPECT_EQ(directory.files("flight.0.").size(), 1u);
}

void expect_crash(const std::string& deed, const std::string& name, int number) {
  const ScratchDirectory directory;
  ChildProcess run(job(directory, {"--devices=2", kMember, deed, "5", "0"}));
  const int code = run.wait();
  const auto file = directory.only("flight.0.");
  ASSERT_NE(file, "") << run.err();
  const FlightDump dump = read_flight_dump(file);
  EXPECT_EQ(dump.reason, name);
  ASSERT_EQ(dump.communicators.size(), 1u);
  EXPECT_EQ(dump.communicators[0].operations.size(), 4u);
  if (tests::kSanitized) {
    EXPECT_NE(code, 0);
  } else {
    EXPECT_EQ(code, 128 + number) << run.err();
    EXPECT_THAT(run.err(), HasSubstr(name)) << "the launcher sees how it died";
  }
}

TEST(FlightRecorder, ACrashDumpsAndThenItIsACrash) { expect_crash("segv", "SIGSEGV", SIGSEGV); }
TEST(FlightRecorder, AnAbortDumpsAndThenItIsAnAbort) { expect_crash("abort", "SIGABRT", SIGABRT); }

TEST(FlightRecorder, ThePreviousHandlerOfASignalActs) {
  const ScratchDirectory directory;
  ChildProcess run(job(directory, {"--devices=2", kMember, "term", "5", "0"}));
  EXPECT_EQ(run.wait(), 5) << run.err();
  EXPECT_THAT(run.out(), HasSubstr("handled"));
  ASSERT_NE(directory.only("flight.0."), "");
}

TEST(FlightRecorder, NothingIsWrittenUnlessAskedFor) {
  const ScratchDirectory directory;
  ChildProcess run(weft_run({"--devices=2", "--transport=tcp", "sh", "-c",
                             "cd " + directory.path() + "; exec " + kMember + " kill 5 1"}));
  EXPECT_NE(run.wait(), 0);
  EXPECT_THAT(run.out(), HasSubstr("thrown: "));
  EXPECT_TRUE(directory.files("").empty());
}

TEST(FlightRecorder, AnUnusableDirectoryIsSaidOnceAndTheJobGoesOn) {
  const ScratchDirectory directory;
  write_file(directory / "file", "");
  for (const std::string option : {"--flight-recorder", "--timeline"}) {
    ChildProcess run(weft_run({"--devices=3", "--transport=tcp", option, directory / "file/x",
                               kMember, "work", "0", "0", "5"}));
    EXPECT_EQ(run.wait(), 0) << run.err();
    const std::string all = run.out() + run.err();
    const auto first = all.find("cannot write into " + directory.path() + "/file/x: ");
    EXPECT_NE(first, std::string::npos) << all;
    EXPECT_EQ(all.find("cannot write into", first + 1), std::string::npos) << all;
    EXPECT_THAT(all, HasSubstr("Not a directory"));
  }
}

class Environment {
 public:
  Environment(const char* name, const std::string& value) : name_(name) {
    ::setenv(name, value.c_str(), 1);
  }
  ~Environment() { ::unsetenv(name_); }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  const char* name_;
};

// Threads as ranks: each has a file of its own, and what fails is in it, quotes and all.
TEST(FlightRecorder, RanksOfOneProcessDumpEachTheirOwn) {
  const ScratchDirectory directory;
  const Environment on(comm::env::kFlightRecorder, directory.path());
  {
    auto world = Communicator::in_process(3);
    std::vector<std::thread> threads;
    for (int r = 0; r < 3; ++r) {
      threads.emplace_back([&, r] {
        comm::Communicator& mine = world[static_cast<std::size_t>(r)];
        std::vector<double> data(300, r);
        try {
          mine.broadcast(std::span<double>(data), 2);
          mine.barrier();
          if (r == 1) mine.abort("a \"quoted\"\n\xff reason");
          mine.all_reduce(std::span<double>(data));
        } catch (const Error&) {
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (int r = 0; r < 3; ++r) {
      const FlightDump dump = read_flight_dump(directory.only(fmt::format("flight.{}.", r)));
      EXPECT_EQ(dump.rank, r);
      ASSERT_EQ(dump.communicators.size(), 1u);
      const auto& mine = dump.communicators[0];
      EXPECT_EQ(mine.rank, r);
      EXPECT_EQ(mine.world_size, 3);
      EXPECT_THAT(mine.failure, HasSubstr("a \"quoted\" "));
      ASSERT_GE(mine.operations.size(), 2u);
      EXPECT_EQ(mine.operations[0].call(), "broadcast, 300 x f64, root 2");
      EXPECT_EQ(mine.operations[1].call(), "barrier");
    }
  }
  ::raise(SIGUSR2);  // nothing is open any more: the files stay as they are
  EXPECT_NE(read_flight_dump(directory.only("flight.0.")).reason, "SIGUSR2");
}

TEST(FlightRecorder, TheLastThousandTwentyFourAreKept) {
  const ScratchDirectory directory;
  const Environment on(comm::env::kFlightRecorder, directory.path());
  auto self = Communicator::self();
  float x = 1;
  for (int k = 0; k < 1500; ++k) self.all_reduce(std::span<float>(&x, 1));
  ::raise(SIGUSR2);
  const FlightDump dump = read_flight_dump(directory.only("flight.0."));
  ASSERT_EQ(dump.communicators.size(), 1u);
  const auto& mine = dump.communicators[0];
  EXPECT_EQ(mine.operations_begun, 1500u);
  ASSERT_EQ(mine.operations.size(), 1024u);
  EXPECT_EQ(mine.operations.front().sequence, 1500 - 1024 + 1);
  EXPECT_EQ(mine.operations.back().sequence, 1500);
  std::int64_t before = 0;
  for (const auto& operation : mine.operations) {
    EXPECT_EQ(operation.state, State::complete);
    EXPECT_GE(operation.start_ns, before);
    EXPECT_GE(*operation.end_ns, operation.start_ns);
    before = *operation.end_ns;
  }
}

// Signals while communicators come and go on other threads.
TEST(FlightRecorder, SignalsMayComeAtAnyTime) {
  const ScratchDirectory directory;
  const Environment on(comm::env::kFlightRecorder, directory.path());
  const auto keep = Communicator::self();  // so that the handler is there
  std::atomic<bool> over{false};
  std::thread churn([&] {
    float x = 1;
    for (int k = 0; k < 200; ++k) {
      auto brief = Communicator::self();
      for (int j = 0; j < 20; ++j) brief.all_reduce(std::span<float>(&x, 1));
    }
    over = true;
  });
  int dumps = 0;
  while (!over.load()) {
    ::raise(SIGUSR2);
    ++dumps;
  }
  churn.join();
  const FlightDump dump = read_flight_dump(directory.only("flight.0."));
  EXPECT_GE(dump.communicators.size(), 1u);
  EXPECT_GT(dumps, 0);
}

}  // namespace
}  // namespace weft::test
