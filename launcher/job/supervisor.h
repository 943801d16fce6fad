// Runs this node's ranks: starts them, passes their output on in whole lines, and ends the job when
// one fails.
//
// A rank that exits with 0 while others run is normal. On the first failure the job is told (so
// that every rank learns who it was), the others get the grace time to end by themselves, then
// SIGTERM, then, after as long again, SIGKILL. SIGINT, SIGTERM and SIGHUP to us are passed on, then
// comes the grace time, then SIGKILL; the second signal kills at once. When a rank has ended,
// whatever it left behind in its process group is killed.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comm/rendezvous/store.h"
#include "launcher/job/exit_status.h"
#include "launcher/job/job_control.h"
#include "launcher/job/output.h"
#include "launcher/job/process.h"

namespace weft::launcher {

enum class StdinFor { nobody, first };  // the first of the ranks given; the others read /dev/null

struct RankStart {
  int rank = 0;
  ProcessSpec process;  // its stdio and guard are filled in here
  std::string prefix;   // put before each of its lines; "[rank 3] "
};

struct SupervisorOptions {
  std::vector<RankStart> ranks;
  std::string host;  // ours, as reports name it
  std::chrono::milliseconds grace{2000};
  bool relay_output = true;    // otherwise the ranks share our standard output and error
  bool handle_signals = true;  // SIGINT, SIGTERM, SIGHUP; SIGUSR1 and SIGUSR2 are passed on
  StdinFor standard_input = StdinFor::first;
};

// The end of a rank, or of the job.
struct RankEnd {
  int rank = 0;
  pid_t pid = 0;
  ExitStatus status;
  std::chrono::milliseconds after{0};   // since it was started
  std::vector<std::string> last_lines;  // of its standard error, if we relay it
  bool killed_by_us = false;
};

struct Outcome {
  std::vector<RankEnd> ends;             // in the order they ended
  std::optional<comm::Failure> verdict;  // the job's
  int signal = 0;                        // that we were told to stop by
  bool output_closed = false;            // nobody read our standard output any more

  const RankEnd* end_of(int rank) const;
  const RankEnd* first_failure() const;  // of those that were not killed by us
  int exit_code() const;                 // 0; 128 + signal; that of the rank at fault; or 1
};

class Supervisor {
 public:
  // Starts the ranks; when one cannot be started, kills those that were and throws as
  // start_process() does. Ranks die with the calling thread: see process.h.
  Supervisor(SupervisorOptions options, JobControl& control, Output& output);
  ~Supervisor();  // kills what is left

  Outcome run();  // until every rank has ended

  // From any thread: SIGTERM now, SIGKILL after the grace time.
  void stop();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace weft::launcher
