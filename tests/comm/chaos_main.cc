// Kills a random rank at a random moment of a random collective, over and over, and looks at the
// others: each must raise an error that names that rank, in time, and nothing may be left behind.
//
//   chaos_main --runs 1000 --transport tcp [--ranks 4] [--seed 1] [--signal kill|stop]
//              [--connections 3] [--hosts 2] [--within-ms 1000] [--verbose]
//
// --hosts: ranks are dealt to so many pretended hosts, each of which shares memory (transport
// auto). Run k of seed s is run 0 of seed s + k: a failure can be repeated alone.
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/environment.h"
#include "comm/rendezvous/handshake.h"
#include "comm/rendezvous/store.h"
#include "tests/comm/chaos_work.h"

using namespace weft;  // NOLINT: a program
using std::chrono::microseconds;
using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

namespace {

struct Options {
  int runs = 20;
  unsigned seed = 1;
  int ranks = 4;
  std::string transport = "tcp";
  std::string signal = "kill";
  int connections = 1;
  int hosts = 1;
  int within_ms = 1000;
  int last_moment_ms = 40;  // after all are ready
  bool verbose = false;     // a line a run
};

constexpr milliseconds kHang{20'000};

long long now_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(Clock::now().time_since_epoch())
      .count();
}

// One rank: works until it is told that something went wrong.
int be_rank(unsigned seed) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  try {
    comm::Communicator world =
        comm::Communicator::connect(comm::ConnectOptions::from_environment());
    comm::testing::ChaosWork work(world, seed);
    world.barrier();
    std::printf("ready\n");
    std::fflush(stdout);
    for (;;) work.step();
  } catch (const Error& error) {
    std::printf("thrown %lld %s: %s\n", now_us(), std::string(name_of(error.code())).c_str(),
                error.what());
  } catch (const std::exception& error) {
    std::printf("thrown %lld no error of ours: %s\n", now_us(), error.what());
  }
  std::fflush(stdout);
  return 1;
}

class Child {
 public:
  Child(const std::vector<std::pair<std::string, std::string>>& variables, unsigned seed) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe");
    const std::string seed_text = std::to_string(seed);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(ends[1], STDOUT_FILENO);
      for (const auto& [name, value] : variables) ::setenv(name.c_str(), value.c_str(), 1);
      ::execl("/proc/self/exe", "chaos_main", "--be-rank", seed_text.c_str(), nullptr);
      ::_exit(127);
    }
    ::close(ends[1]);
    out_ = ends[0];
  }
  Child(Child&& other) noexcept
      : pid_(std::exchange(other.pid_, -1)),
        out_(std::exchange(other.out_, -1)),
        said_(std::move(other.said_)) {}
  ~Child() {
    if (out_ >= 0) ::close(out_);
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  // A whole line with `text` in it.
  bool says(const std::string& text, Clock::time_point until) {
    for (;;) {
      const auto at = said_.find(text);
      if (at != std::string::npos && said_.find('\n', at) != std::string::npos) return true;
      const auto left = std::max(Clock::duration(0), until - Clock::now());
      const long long nanoseconds = std::chrono::nanoseconds(left).count();
      const timespec patience{nanoseconds / 1'000'000'000, nanoseconds % 1'000'000'000};
      pollfd ready{out_, POLLIN, 0};
      if (::ppoll(&ready, 1, &patience, nullptr) <= 0) return false;
      char buffer[1024];
      const ssize_t n = ::read(out_, buffer, sizeof buffer);
      if (n <= 0) return false;
      said_.append(buffer, static_cast<std::size_t>(n));
    }
  }
  // That it ends by itself, and how: the exit status, or -1 if it hangs.
  int exit_status(Clock::time_point until) {
    while (Clock::now() < until) {
      int status = 0;
      if (::waitpid(pid_, &status, WNOHANG) == pid_) {
        pid_ = -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      }
      ::poll(nullptr, 0, 1);
    }
    return -1;
  }
  pid_t pid() const { return pid_; }
  const std::string& said() const { return said_; }

 private:
  pid_t pid_ = -1;
  int out_ = -1;
  std::string said_;
};

std::vector<std::string> shared_memory_names() {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/dev/shm", ignored)) {
    const std::string name = entry.path().filename();
    if (name.find("weft") != std::string::npos) names.push_back(name);
  }
  return names;
}

struct Found {
  std::vector<std::string> complaints;
  long long slowest_us = 0;
};

void look_at_survivor(Child& child, int rank, int victim, pid_t victim_pid, long long killed_us,
                      const Options& options, Found& found) {
  const auto complain = [&](const std::string& what) {
    found.complaints.push_back(fmt::format("rank {}: {}; it said:\n{}", rank, what, child.said()));
  };
  if (!child.says("thrown ", Clock::now() + kHang)) return complain("hangs, or ended silently");
  const auto at = child.said().find("thrown ");
  const long long took_us = std::atoll(child.said().c_str() + at + 7) - killed_us;
  found.slowest_us = std::max(found.slowest_us, took_us);
  const bool stops = options.signal == "stop";
  const std::string named = fmt::format("rank {}", victim);
  const std::string pid = fmt::format("pid {}", victim_pid);
  const std::string text = child.said().substr(at);
  if (text.find("peer_lost: ") == std::string::npos) complain("this is no PeerLost");
  if (text.find(named) == std::string::npos || text.find(pid) == std::string::npos) {
    complain(fmt::format("does not name {}, {}", named, pid));
  }
  if (stops && text.find("stopped") == std::string::npos) complain("dead is not stopped");
  if (!stops && text.find("silent") != std::string::npos) complain("stopped is not dead");
  if (took_us > options.within_ms * 1000ll) {
    complain(fmt::format("told after {} ms", took_us / 1000));
  }
  if (child.exit_status(Clock::now() + kHang) != 1) complain("did not end by itself");
}

Found run(const Options& options, unsigned seed) {
  std::mt19937 random(seed);
  Found found;
  comm::StoreServerOptions server_options;
  server_options.job.job_id = fmt::format("chaos-{}", seed);
  server_options.job.secret = comm::make_secret();
  server_options.world_size = options.ranks;
  server_options.listen_addresses = {"127.0.0.1"};
  comm::StoreServer server(server_options);
  const int secret = ::memfd_create("secret", 0);  // inherited
  const std::string hex = comm::format_secret(server_options.job.secret);
  if (::write(secret, hex.data(), hex.size()) != static_cast<ssize_t>(hex.size())) std::abort();
  std::vector<Child> children;
  for (int r = 0; r < options.ranks; ++r) {
    children.emplace_back(
        std::vector<std::pair<std::string, std::string>>{
            {comm::env::kRank, std::to_string(r)},
            {comm::env::kWorldSize, std::to_string(options.ranks)},
            {comm::env::kStoreAddress, "127.0.0.1"},
            {comm::env::kStorePort, std::to_string(server.port())},
            {comm::env::kJobId, server_options.job.job_id},
            {comm::env::kSecretFd, std::to_string(secret)},
            {comm::env::kTransport, options.transport},
            {comm::env::kHostKey, options.hosts > 1 ? std::to_string(r % options.hosts) : ""},
            {comm::env::kConnections, std::to_string(options.connections)}},
        seed);
  }
  ::close(secret);
  for (int r = 0; r < options.ranks; ++r) {
    Child& child = children[static_cast<std::size_t>(r)];
    if (child.says("ready", Clock::now() + kHang)) continue;
    found.complaints.push_back(fmt::format("rank {} did not start:\n{}", r, child.said()));
    return found;
  }
  const int victim = static_cast<int>(random() % static_cast<unsigned>(options.ranks));
  const std::size_t index = static_cast<std::size_t>(victim);
  // The random moment, until which all is well.
  const auto moment =
      Clock::now() + microseconds(random() % static_cast<unsigned>(options.last_moment_ms * 1000));
  if (children[index].says("thrown ", moment)) {
    found.complaints.push_back(fmt::format("failed by itself:\n{}", children[index].said()));
    return found;
  }
  const pid_t victim_pid = children[index].pid();
  const long long killed_us = now_us();
  ::kill(victim_pid, options.signal == "stop" ? SIGSTOP : SIGKILL);
  for (int r = 0; r < options.ranks; ++r) {
    if (r == victim) continue;
    look_at_survivor(children[static_cast<std::size_t>(r)], r, victim, victim_pid, killed_us,
                     options, found);
  }
  return found;
}

int be_parent(const Options& options) {
  const auto names_before = shared_memory_names();
  int failed = 0;
  long long slowest_us = 0;
  std::vector<long long> times;
  for (int k = 0; k < options.runs; ++k) {
    const unsigned seed = options.seed + static_cast<unsigned>(k);
    Found found = run(options, seed);
    const auto names = shared_memory_names();
    if (names.size() > names_before.size()) {
      found.complaints.push_back(fmt::format("{} is left in /dev/shm", names.back()));
    }
    slowest_us = std::max(slowest_us, found.slowest_us);
    times.push_back(found.slowest_us);
    for (const std::string& complaint : found.complaints) {
      std::printf("seed %u: %s\n", seed, complaint.c_str());
    }
    failed += found.complaints.empty() ? 0 : 1;
    if (options.verbose) std::printf("seed %u: told after %lld us\n", seed, found.slowest_us);
    if (options.runs >= 100 && (k + 1) % 100 == 0) {
      std::printf("%d runs, %d failed, slowest %lld ms\n", k + 1, failed, slowest_us / 1000);
    }
    std::fflush(stdout);
  }
  std::sort(times.begin(), times.end());
  const auto ms_below_which = [&](std::size_t percent) {
    return static_cast<double>(times[(times.size() - 1) * percent / 100]) / 1000;
  };
  std::printf(
      "chaos: transport %s, %d ranks, %d runs, signal %s: %d failed; the last survivor was "
      "told after %.1f ms (median), %.1f ms (99 in 100), %.1f ms at worst\n",
      options.transport.c_str(), options.ranks, options.runs, options.signal.c_str(), failed,
      ms_below_which(50), ms_below_which(99), static_cast<double>(slowest_us) / 1000);
  return failed == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == "--be-rank") {
    return be_rank(static_cast<unsigned>(std::strtoul(argv[2], nullptr, 10)));
  }
  Options options;
  CLI::App app("Kills ranks and looks at the others");
  app.add_option("--runs", options.runs)->check(CLI::Range(1, 1'000'000));
  app.add_option("--seed", options.seed);
  app.add_option("--ranks", options.ranks)->check(CLI::Range(2, 64));
  app.add_option("--transport", options.transport);
  app.add_option("--signal", options.signal)->check(CLI::IsMember({"kill", "stop"}));
  app.add_option("--connections", options.connections)->check(CLI::Range(1, 16));
  app.add_option("--hosts", options.hosts)->check(CLI::Range(1, 64));
  app.add_option("--within-ms", options.within_ms);
  app.add_flag("--verbose", options.verbose, "a line a run");
  CLI11_PARSE(app, argc, argv);
  return be_parent(options);
}
