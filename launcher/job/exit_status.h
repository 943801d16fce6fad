// How a process ended, in words and as an exit code.
#pragma once

#include <string>

namespace weft::launcher {

struct ExitStatus {
  int code = 0;         // of exit(), if signal == 0
  int signal = 0;       // that killed it
  bool dumped = false;  // a core file was written

  bool ok() const { return code == 0 && signal == 0; }
  int exit_code() const { return signal != 0 ? 128 + signal : code; }
};

std::string signal_name(int signal);  // "SIGKILL"
std::string describe(
    const ExitStatus& status);  // "exited with code 3", "killed by signal 9 (SIGKILL)"

}  // namespace weft::launcher
