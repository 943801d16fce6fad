#include "launcher/job/process.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "kernels/base/error.h"
#include "launcher/job/guard.h"
#include "launcher/job/launch_error.h"

namespace weft::launcher {
namespace {

enum class Stage : int { bind, unbound, redirect, execute };
struct ChildError {
  Stage stage;
  int number;
};

struct CpuSetDeleter {
  void operator()(cpu_set_t* set) const { CPU_FREE(set); }
};

// Everything the child needs, laid out before fork(): between fork() and exec() only
// async-signal-safe calls are allowed, because other threads may have held any lock.
struct ChildPlan {
  const ProcessSpec* spec;
  std::vector<char*> arguments;
  std::vector<char*> shell_arguments;
  std::vector<char*> environment;
  std::unique_ptr<cpu_set_t, CpuSetDeleter> wanted;
  std::unique_ptr<cpu_set_t, CpuSetDeleter> found;
  std::size_t set_size = 0;
  pid_t parent;
  int error_fd;
};

std::vector<char*> pointers_to(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (const auto& s : strings) pointers.push_back(const_cast<char*>(s.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

ChildPlan plan_child(const ProcessSpec& spec, int error_fd) {
  ChildPlan plan{};
  plan.spec = &spec;
  plan.arguments = pointers_to(spec.arguments);
  plan.environment = pointers_to(spec.environment);
  // A script without "#!" is run by the shell, as execvp does.
  static char shell[] = "/bin/sh";
  plan.shell_arguments = {shell, const_cast<char*>(spec.path.c_str())};
  plan.shell_arguments.insert(plan.shell_arguments.end(), plan.arguments.begin() + 1,
                              plan.arguments.end());
  if (!spec.cpus.empty()) {
    const int last = *std::max_element(spec.cpus.begin(), spec.cpus.end());
    // The kernel refuses to report an affinity into a mask smaller than its own.
    const int capacity = std::max(last + 1, 8192);
    plan.set_size = CPU_ALLOC_SIZE(capacity);
    plan.wanted.reset(CPU_ALLOC(capacity));
    plan.found.reset(CPU_ALLOC(capacity));
    CPU_ZERO_S(plan.set_size, plan.wanted.get());
    for (const int cpu : spec.cpus) {
      CPU_SET_S(static_cast<std::size_t>(cpu), plan.set_size, plan.wanted.get());
    }
  }
  plan.parent = getpid();
  plan.error_fd = error_fd;
  return plan;
}

[[noreturn]] void give_up(const ChildPlan& plan, Stage stage) {
  const ChildError error{stage, errno};
  [[maybe_unused]] const auto written = write(plan.error_fd, &error, sizeof error);
  _exit(kExitNotExecutable);
}

void redirect(const ChildPlan& plan, int from, int to) {
  if (from >= 0 && dup2(from, to) < 0) give_up(plan, Stage::redirect);
}

[[noreturn]] void run_child(const ChildPlan& plan) {
  const ProcessSpec& spec = *plan.spec;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != plan.parent)
    _exit(kExitNotExecutable);  // it died before we asked for its signal
  if (spec.own_group) setpgid(0, 0);
  if (spec.guard_fd >= 0) tell_guard(spec.guard_fd, spec.own_group ? -getpid() : getpid());
  if (plan.wanted) {
    if (sched_setaffinity(0, plan.set_size, plan.wanted.get()) != 0) give_up(plan, Stage::bind);
    CPU_ZERO_S(plan.set_size, plan.found.get());
    if (sched_getaffinity(0, plan.set_size, plan.found.get()) != 0) give_up(plan, Stage::bind);
    if (!CPU_EQUAL_S(plan.set_size, plan.wanted.get(), plan.found.get())) {
      give_up(plan, Stage::unbound);
    }
  }
  redirect(plan, spec.stdin_fd, STDIN_FILENO);
  redirect(plan, spec.stdout_fd, STDOUT_FILENO);
  redirect(plan, spec.stderr_fd, STDERR_FILENO);
  if (spec.kept_fd >= 0 && fcntl(spec.kept_fd, F_SETFD, 0) != 0) give_up(plan, Stage::redirect);
  if (spec.descriptors_max > 0) {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = spec.descriptors_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  struct sigaction normal {};
  normal.sa_handler = SIG_DFL;
  sigaction(SIGPIPE, &normal, nullptr);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  execve(spec.path.c_str(), plan.arguments.data(), plan.environment.data());
  if (errno == ENOEXEC) {
    execve(plan.shell_arguments[0], plan.shell_arguments.data(), plan.environment.data());
  }
  give_up(plan, Stage::execute);
}

[[noreturn]] void explain(const ProcessSpec& spec, const ChildError& error) {
  switch (error.stage) {
    case Stage::bind:
      refuse(kExitNotExecutable,
             "cannot bind a rank to its cores: {}. Are they outside this job's cpuset? "
             "--bind none runs it unbound.",
             errno_text(error.number));
    case Stage::unbound:
      refuse(kExitNotExecutable,
             "a rank was bound to other cores than asked for: the cpuset of this job is smaller "
             "than it looked. --bind none runs it unbound.");
    case Stage::redirect:
      fail<IoError>("cannot redirect the files of a rank: {}", errno_text(error.number));
    case Stage::execute:
      break;
  }
  refuse(kExitNotExecutable, "cannot run {}: {}", spec.path, errno_text(error.number));
}

}  // namespace

std::uint64_t raise_descriptor_limit() {
  constexpr rlim_t kEnough = 65536;
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  const rlim_t former = limit.rlim_cur;
  limit.rlim_cur = std::max(former, std::min(limit.rlim_max, kEnough));
  setrlimit(RLIMIT_NOFILE, &limit);
  return former;
}

Process start_process(const ProcessSpec& spec) {
  Pipe errors = make_pipe();
  const ChildPlan plan = plan_child(spec, errors.write.get());
  // No handler of ours may run in the child before the program takes its place.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t pid = fork();
  if (pid == 0) run_child(plan);
  const int fork_errno = errno;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) fail<IoError>("cannot start a process: {}", errno_text(fork_errno));

  if (spec.own_group) setpgid(pid, pid);  // whichever of us comes first
  errors.write.close();
  ChildError error{};
  ssize_t got = 0;
  do {
    got = read(errors.read.get(), &error, sizeof error);
  } while (got < 0 && errno == EINTR);
  if (got > 0) {
    waitpid(pid, nullptr, 0);
    if (spec.guard_fd >= 0) tell_guard_gone(spec.guard_fd, spec.own_group ? -pid : pid);
    explain(spec, error);
  }
  Process process{pid, FileDescriptor(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)))};
  if (!process.pidfd) {
    const int number = errno;
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    fail<Unsupported>("cannot watch a process: {} (pidfd_open needs Linux 5.3 or newer)",
                      errno_text(number));
  }
  return process;
}

}  // namespace weft::launcher
