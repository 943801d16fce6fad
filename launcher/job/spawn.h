// Starts the missing ranks of a job on this machine from within the program that wants them: what
// Fabric::launch() does when the program is run like any other.
//
// This process becomes rank 0 and serves the store. A thread of its own, which lives as long as the
// process, starts ranks 1 .. N-1 as further instances of this program with the same arguments, in
// our process group (Ctrl-C reaches all) and with /dev/null for standard input. Their output is
// passed on in whole lines, without prefix.
//
// - A child that fails: the store tells every rank, this one too.
// - We end normally (return from main, exit()): we wait for the children, at most `exit_wait`, then
//   stop them. If a child was the first to fail, its exit code becomes ours, and a report says why.
// - We die: so do the children, and at once.
#pragma once

#include <chrono>
#include <string>

#include "comm/communicator.h"
#include "launcher/job/placement.h"
#include "launcher/job/rank_environment.h"

namespace weft::launcher {

struct SpawnOptions {
  int ranks = 2;                          // of the whole job, this one included
  Variables variables;                    // further ones for every rank
  std::chrono::milliseconds grace{2000};  // see supervisor.h
  std::chrono::milliseconds exit_wait{30'000};
};

// Call it once, early, from the main thread: it changes this process's environment (so that what
// reads it later sees rank 0's) and binds the calling thread. Throws LaunchError, IoError;
// InvalidArgument on a second call or where this process is a rank already.
comm::ConnectOptions launch_ranks_from_here(const SpawnOptions& options);

}  // namespace weft::launcher
