// Starts one rank as a process that cannot outlive us.
//
// The child gets SIGKILL when the thread that started it ends (PR_SET_PDEATHSIG), so start ranks
// from a thread that lives as long as the process. Signal mask and SIGPIPE are back to their
// defaults in it, its binding is set and verified before the program starts, and nothing of ours is
// open in it but what the spec names.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "launcher/job/file_descriptor.h"

namespace weft::launcher {

struct ProcessSpec {
  std::string path;                      // of the executable, see find_program()
  std::vector<std::string> arguments;    // argv; [0] is the name as typed
  std::vector<std::string> environment;  // "NAME=value"
  std::vector<int> cpus;                 // OS indices to bind to; empty: unbound
  int stdin_fd = -1;                     // -1: inherited. Otherwise duplicate_high() ones
  int stdout_fd = -1;
  int stderr_fd = -1;
  int kept_fd = -1;                   // stays open in the program under the same number
  int guard_fd = -1;                  // told of the process before the program starts; see guard.h
  std::uint64_t descriptors_max = 0;  // the limit (ulimit -n) to set; 0: ours
  bool own_group = true;              // a process group of its own
};

struct Process {
  pid_t pid = -1;
  FileDescriptor pidfd;  // readable once the process has ended
};

// Raises our own limit of open descriptors as far as allowed, for many ranks need many; gives the
// former one, to be restored in them.
std::uint64_t raise_descriptor_limit();

// Returns once the program is running; throws LaunchError (126) if it cannot be executed or bound,
// IoError where the system refuses a process.
Process start_process(const ProcessSpec& spec);

}  // namespace weft::launcher
