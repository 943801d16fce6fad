// Ranks that are processes, and die: every survivor names the one that did, within a second.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <utility>

#include "comm/environment.h"
#include "tests/comm/world.h"

extern char** environ;

namespace weft::comm {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using ::testing::HasSubstr;

class Process {
 public:
  Process(const ConnectOptions& options, int secret_fd, const std::string& deed, int turn) {
    int ends[2];
    if (::pipe(ends) != 0) throw std::runtime_error("pipe");
    std::vector<std::string> environment = {
        fmt::format("{}={}", env::kRank, options.rank),
        fmt::format("{}={}", env::kWorldSize, options.world_size),
        fmt::format("{}={}", env::kStoreAddress, options.store_host),
        fmt::format("{}={}", env::kStorePort, options.store_port),
        fmt::format("{}={}", env::kJobId, options.job_id),
        fmt::format("{}={}", env::kSecretFd, secret_fd),
        fmt::format("{}={}", env::kTransport,
                    options.transport == TransportKind::shm ? "shm" : "tcp"),
    };
    for (char** entry = environ; *entry != nullptr; ++entry) environment.emplace_back(*entry);
    std::vector<char*> variables;
    for (std::string& entry : environment) variables.push_back(entry.data());
    variables.push_back(nullptr);
    const std::string program = std::string(WEFT_BIN_DIR) + "/comm_member_main";
    const std::string turn_text = std::to_string(turn);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(ends[1], STDOUT_FILENO);
      ::close(ends[0]);
      ::execle(program.c_str(), program.c_str(), deed.c_str(), turn_text.c_str(), nullptr,
               variables.data());
      ::_exit(127);
    }
    ::close(ends[1]);
    out_ = ends[0];
  }
  Process(Process&& other) noexcept
      : pid_(std::exchange(other.pid_, -1)), out_(std::exchange(other.out_, -1)) {}
  ~Process() {
    if (out_ >= 0) ::close(out_);
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }

  // Reads until `text` has come, or the process has closed its output, or the time is up.
  bool says(const std::string& text, milliseconds patience) {
    const auto end = steady_clock::now() + patience;
    while (said_.find(text) == std::string::npos) {
      const auto left = std::chrono::duration_cast<milliseconds>(end - steady_clock::now());
      pollfd ready{out_, POLLIN, 0};
      if (left.count() <= 0 || ::poll(&ready, 1, static_cast<int>(left.count())) <= 0) return false;
      char buffer[512];
      const ssize_t n = ::read(out_, buffer, sizeof buffer);
      if (n <= 0) return false;
      said_.append(buffer, static_cast<std::size_t>(n));
    }
    return true;
  }
  const std::string& said() const { return said_; }
  void wait_for_exit() {
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  int out_ = -1;
  std::string said_;
};

class Processes : public ::testing::TestWithParam<testing::Backend> {
 protected:
  void SetUp() override {
    secret_ = ::memfd_create("secret", 0);  // inherited
    const std::string hex = format_secret(job_.identity().secret);
    ASSERT_EQ(::write(secret_, hex.data(), hex.size()), static_cast<ssize_t>(hex.size()));
  }
  void TearDown() override { ::close(secret_); }

  // Rank 2 of 4 does `deed` as its 30th collective; the others say "ready" at their 20th, because
  // one may still be in its 29th by then.
  void expect_named(const std::string& deed, const std::string& what) {
    std::vector<Process> ranks;
    for (int r = 0; r < 4; ++r) {
      ranks.emplace_back(job_.options(r), secret_, r == 2 ? deed : "work", r == 2 ? 30 : 20);
    }
    ASSERT_TRUE(ranks[0].says("ready", milliseconds(20'000))) << ranks[0].said();
    const auto begun = steady_clock::now();
    for (const std::size_t r : {0u, 1u, 3u}) {
      EXPECT_TRUE(ranks[r].says("thrown: ", milliseconds(10'000))) << "rank " << r;
      EXPECT_LT(steady_clock::now() - begun, milliseconds(1500)) << "rank " << r;
      EXPECT_TRUE(ranks[r].says("\n", milliseconds(1000)));
      EXPECT_THAT(ranks[r].said(), HasSubstr("rank 2"));
      EXPECT_THAT(ranks[r].said(), HasSubstr(fmt::format("pid {}", ranks[2].pid())));
      EXPECT_THAT(ranks[r].said(), HasSubstr(what));
    }
  }

  // Rank 2 of 4 gets no memory for its 5th collective; all fail with that.
  void expect_starved(const std::string& deed) {
    std::vector<Process> ranks;
    for (int r = 0; r < 4; ++r) {
      ranks.emplace_back(job_.options(r), secret_, r == 2 ? deed + " starving" : deed, 5);
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
  int secret_ = -1;
};

TEST_P(Processes, ARankKilledOutrightIsNamed) { expect_named("kill", "all_reduce #"); }
TEST_P(Processes, ARankThatExitsIsNamed) { expect_named("exit", "all_reduce #"); }
TEST_P(Processes, ARankThatThrowsIsNamed) { expect_named("throw", "exception"); }

// The launcher reports how the process exited as soon as it has: that comes too late to win.
TEST_P(Processes, AnAbortIsNotHiddenByTheExitThatFollows) {
  std::vector<Process> ranks;
  for (int r = 0; r < 4; ++r) {
    ranks.emplace_back(job_.options(r), secret_, r == 2 ? "abort" : "work", 5);
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

// On shared memory a collective needs no more of it than there is from the start.
class Starved : public Processes {};
TEST_P(Starved, ARankWithoutMemoryFailsAll) { expect_starved("need"); }
TEST_P(Starved, ARankWithoutMemoryFailsAllAsync) { expect_starved("need async"); }

INSTANTIATE_TEST_SUITE_P(Transports, Processes,
                         ::testing::Values(testing::shm_backend(), testing::Backend{"tcp", true}),
                         [](const auto& param_info) { return param_info.param.name; });
INSTANTIATE_TEST_SUITE_P(Transports, Starved, ::testing::Values(testing::Backend{"tcp", true}),
                         [](const auto& param_info) { return param_info.param.name; });

}  // namespace
}  // namespace weft::comm
