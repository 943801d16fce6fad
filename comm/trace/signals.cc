// The signals that dump the flight recorder.
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <mutex>

#include "comm/trace/dump.h"

namespace weft::comm::trace {

namespace {

struct Watched {
  int number;
  std::string_view quoted_name;
  struct sigaction before;
};

std::array<Watched, 6> g_watched = {{{SIGUSR2, "\"SIGUSR2\"", {}},
                                     {SIGSEGV, "\"SIGSEGV\"", {}},
                                     {SIGABRT, "\"SIGABRT\"", {}},
                                     {SIGBUS, "\"SIGBUS\"", {}},
                                     {SIGFPE, "\"SIGFPE\"", {}},
                                     {SIGTERM, "\"SIGTERM\"", {}}}};

pid_t g_process = 0;  // that of install_signal_handlers(): a fork()ed child has nothing to dump

bool is_ignored(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) == 0 && action.sa_handler == SIG_IGN;
}

bool is_default(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) == 0 && action.sa_handler == SIG_DFL;
}

// SIGUSR2: whoever handled it before is called as well, its default (to die) is what we replace.
void pass_on(const Watched& watched, siginfo_t* info, void* context) {
  const struct sigaction& before = watched.before;
  if (is_ignored(before) || is_default(before)) return;
  if ((before.sa_flags & SA_SIGINFO) != 0) {
    before.sa_sigaction(watched.number, info, context);
  } else {
    before.sa_handler(watched.number);
  }
}

void handle(int number, siginfo_t* info, void* context) {
  const int saved = errno;
  for (Watched& watched : g_watched) {
    if (watched.number != number) continue;
    if (::getpid() == g_process) dump(-1, {"signal", watched.quoted_name, number});
    if (number == SIGUSR2) {
      pass_on(watched, info, context);
    } else if (!is_ignored(watched.before) || info->si_code > 0) {
      // What was there before us acts: a fault happens again as soon as we return, so that it sees
      // the same address; a signal that was sent is sent again, and waits until we have returned.
      ::sigaction(number, &watched.before, nullptr);
      if (info->si_code <= 0) ::raise(number);
    }
  }
  errno = saved;
}

}  // namespace

void install_signal_handlers() {
  static std::once_flag once;
  std::call_once(once, [] {
    g_process = ::getpid();
    for (Watched& watched : g_watched) {
      struct sigaction action {};
      action.sa_sigaction = handle;
      action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
      sigemptyset(&action.sa_mask);
      ::sigaction(watched.number, nullptr, &watched.before);
      ::sigaction(watched.number, &action, nullptr);
    }
  });
}

}  // namespace weft::comm::trace
