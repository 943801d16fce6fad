#include "launcher/job/exit_status.h"

#include <fmt/format.h>
#include <signal.h>

#include <array>
#include <utility>

namespace weft::launcher {

std::string signal_name(int signal) {
  // sigabbrev_np() is glibc 2.32 and newer.
  static constexpr std::array<std::pair<int, const char*>, 24> kNames{{
      {SIGHUP, "SIGHUP"},       {SIGINT, "SIGINT"},   {SIGQUIT, "SIGQUIT"},
      {SIGILL, "SIGILL"},       {SIGTRAP, "SIGTRAP"}, {SIGABRT, "SIGABRT"},
      {SIGBUS, "SIGBUS"},       {SIGFPE, "SIGFPE"},   {SIGKILL, "SIGKILL"},
      {SIGUSR1, "SIGUSR1"},     {SIGSEGV, "SIGSEGV"}, {SIGUSR2, "SIGUSR2"},
      {SIGPIPE, "SIGPIPE"},     {SIGALRM, "SIGALRM"}, {SIGTERM, "SIGTERM"},
      {SIGSTKFLT, "SIGSTKFLT"}, {SIGXCPU, "SIGXCPU"}, {SIGXFSZ, "SIGXFSZ"},
      {SIGVTALRM, "SIGVTALRM"}, {SIGPROF, "SIGPROF"}, {SIGIO, "SIGIO"},
      {SIGPWR, "SIGPWR"},       {SIGSYS, "SIGSYS"},   {SIGCONT, "SIGCONT"},
  }};
  for (const auto& [number, name] : kNames) {
    if (number == signal) return name;
  }
  return fmt::format("SIG{}", signal);
}

std::string describe(const ExitStatus& status) {
  if (status.signal == 0) return fmt::format("exited with code {}", status.code);
  return fmt::format("killed by signal {} ({}){}", status.signal, signal_name(status.signal),
                     status.dumped ? ", core dumped" : "");
}

}  // namespace weft::launcher
