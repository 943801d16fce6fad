#include "launcher/job/spawn.h"

#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <future>
#include <iostream>
#include <iterator>
#include <memory>
#include <thread>

#include "comm/environment.h"
#include "comm/rendezvous/handshake.h"
#include "launcher/environment/variables.h"
#include "launcher/job/report.h"
#include "launcher/job/secret_store.h"
#include "launcher/job/session.h"
#include "launcher/job/supervisor.h"

namespace weft::launcher {
namespace {

// The arguments this process was started with.
std::vector<std::string> own_arguments() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  const std::string all{std::istreambuf_iterator<char>(file), {}};
  std::vector<std::string> arguments;
  for (std::size_t begin = 0; begin < all.size();) {
    const auto end = all.find('\0', begin);
    arguments.push_back(all.substr(begin, end - begin));
    begin = end == std::string::npos ? all.size() : end + 1;
  }
  if (arguments.empty()) fail<IoError>("cannot read /proc/self/cmdline to start further ranks");
  return arguments;
}

// Our executable by name, so that ps shows it; by its link where the file has been replaced since.
std::string own_program() {
  static constexpr const char* kLink = "/proc/self/exe";
  std::array<char, 4096> path{};
  const ssize_t size = readlink(kLink, path.data(), path.size() - 1);
  struct stat ours {};
  struct stat named {};
  if (size > 0 && stat(kLink, &ours) == 0 && stat(path.data(), &named) == 0 &&
      ours.st_dev == named.st_dev && ours.st_ino == named.st_ino) {
    return path.data();
  }
  return kLink;
}

void bind_this_thread(const std::vector<int>& cpus) {
  if (cpus.empty()) return;
  cpu_set_t* set = CPU_ALLOC(static_cast<std::size_t>(cpus.back()) + 1);
  const std::size_t size = CPU_ALLOC_SIZE(static_cast<std::size_t>(cpus.back()) + 1);
  CPU_ZERO_S(size, set);
  for (const int cpu : cpus) CPU_SET_S(static_cast<std::size_t>(cpu), size, set);
  const int result = sched_setaffinity(0, size, set);
  const int number = errno;
  CPU_FREE(set);
  if (result != 0) fail<IoError>("cannot bind rank 0 to its cores: {}", errno_text(number));
}

// Everything that must live until the process ends; never destroyed, because other threads and the
// exit handler use it to the last.
struct Children {
  pid_t owner = getpid();
  std::string host = host_name();
  std::chrono::milliseconds exit_wait{0};
  std::unique_ptr<Session> session;
  FileDescriptor secret;
  std::unique_ptr<Output> output;
  std::unique_ptr<Supervisor> supervisor;
  std::promise<void> started;
  std::promise<Outcome> ended;
  std::future<Outcome> outcome = ended.get_future();
  std::thread thread;
};

Children* children = nullptr;

void supervise(SupervisorOptions options) {
  sigset_t all;  // the program's signals are for its own threads
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  Children& c = *children;
  try {
    c.supervisor =
        std::make_unique<Supervisor>(std::move(options), c.session->control(), *c.output);
  } catch (...) {
    c.started.set_exception(std::current_exception());
    return;
  }
  c.started.set_value();
  Outcome outcome;
  try {
    outcome = c.supervisor->run();
  } catch (const std::exception& error) {
    c.output->write(Stream::error,
                    fmt::format("weft: cannot watch the other ranks any more: {}\n", error.what()));
  }
  c.ended.set_value(std::move(outcome));
}

void tell_end_of_rank_0(int status) {
  comm::Failure failure;
  failure.source = comm::Failure::Source::agent;
  failure.rank = 0;
  failure.host = children->host;
  failure.pid = getpid();
  failure.what = fmt::format("exited with code {}", status);
  children->session->control().report(failure);
}

// Runs when this process ends by exit() or by returning from main.
void wait_for_children(int status, void*) {
  if (children == nullptr || getpid() != children->owner) return;  // a forked copy of us
  Children& c = *children;
  if (status != 0) tell_end_of_rank_0(status);
  if (c.outcome.wait_for(c.exit_wait) != std::future_status::ready) {
    c.output->write(Stream::error,
                    fmt::format("weft: rank 0 ended {} ms ago; stopping the other ranks\n",
                                c.exit_wait.count()));
    c.supervisor->stop();
  }
  const Outcome outcome = c.outcome.get();
  c.thread.join();
  int code = outcome.exit_code();
  const bool ours = outcome.verdict && outcome.verdict->rank == 0;
  if (status != 0 && (ours || outcome.first_failure() == nullptr)) code = status;
  if (code != 0 && !ours) c.output->write(Stream::error, failure_report(outcome, c.host));
  c.output->drain(std::chrono::seconds(10));
  if (code == status || code == 0) return;
  std::cout.flush();
  std::fflush(nullptr);
  _exit(code);
}

RankStart start_of(const SpawnOptions& options, const RankPlace& place, const Share& share,
                   const std::vector<std::string>& inherited) {
  Variables variables =
      place_variables(place, children->session->address(), children->secret.get());
  variables.merge(thread_variables(share.threads, inherited));
  for (const auto& [name, value] : options.variables) variables[name] = value;
  RankStart start;
  start.rank = place.rank;
  start.process.path = own_program();
  start.process.arguments = own_arguments();
  start.process.environment = changed_environment(inherited, variables);
  start.process.cpus = share.bound_cpus;
  start.process.kept_fd = children->secret.get();
  start.process.own_group = false;
  return start;
}

void become_rank_0(const SpawnOptions& options, const RankPlace& place, const Share& share,
                   const std::vector<std::string>& inherited) {
  Variables variables =
      place_variables(place, children->session->address(), children->secret.get());
  variables.merge(thread_variables(share.threads, inherited));
  for (const auto& [name, value] : options.variables) variables[name] = value;
  for (const auto& [name, value] : variables) setenv(name.c_str(), value.c_str(), 1);
  bind_this_thread(share.bound_cpus);
}

}  // namespace

comm::ConnectOptions launch_ranks_from_here(const SpawnOptions& options) {
  if (children != nullptr) fail<InvalidArgument>("the ranks of this job were started before");
  if (std::getenv(comm::env::kRank) != nullptr) {
    fail<InvalidArgument>("this process is rank {} of a job already and cannot start another",
                          std::getenv(comm::env::kRank));
  }
  if (options.ranks < 1) {
    fail<InvalidArgument>("cannot start a job of {} ranks; expected at least 1", options.ranks);
  }
  const auto machine = read_machine();
  const auto shares = share_out(machine, options.ranks, automatic_binding(machine, options.ranks));
  SessionOptions session;
  session.local_ranks = options.ranks;
  session.secret = comm::make_secret();
  children = new Children;  // NOLINT: lives as long as the process
  children->exit_wait = options.exit_wait;
  children->session = open_session(session);
  children->secret = secret_in_memory(session.secret);
  children->output = std::make_unique<Output>(STDOUT_FILENO, STDERR_FILENO);

  SupervisorOptions supervisor;
  supervisor.host = children->host;
  supervisor.grace = options.grace;
  supervisor.handle_signals = false;
  supervisor.standard_input = StdinFor::nobody;
  RankPlace place;
  place.world_size = place.local_world_size = options.ranks;
  const auto inherited = current_environment();
  for (int rank = 1; rank < options.ranks; ++rank) {
    place.rank = place.local_rank = rank;
    supervisor.ranks.push_back(
        start_of(options, place, shares[static_cast<std::size_t>(rank)], inherited));
  }
  place.rank = place.local_rank = 0;
  become_rank_0(options, place, shares[0], inherited);
  std::future<void> started = children->started.get_future();
  children->thread = std::thread(supervise, std::move(supervisor));
  try {
    started.get();
  } catch (...) {
    children->thread.join();
    throw;
  }
  // glibc's way to learn the exit status, which decides whose exit code the process gets.
  on_exit(wait_for_children, nullptr);
  return comm::ConnectOptions::from_environment();
}

}  // namespace weft::launcher
