// What a dump of the flight recorder knows of one communicator on one rank; and the list of all of
// them in this process, which signal handlers read.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "comm/trace/recorder.h"

namespace weft::comm::trace {

// Who records. Ranks of the communicator, and their names in the job.
struct Identity {
  int rank = 0;
  int world_size = 1;
  int job_rank = 0;
  std::string communicator = "world";
  std::string host;
  std::string job;
};

// `text` as a JSON string, in quotes; what is no UTF-8 is replaced.
std::string json_text(const std::string& text);

class Log {
 public:
  // `directory`: where dumps go.
  Log(const Recorder& recorder, const Identity& identity, std::string directory);

  // Why the communicator is broken: the first one counts.
  void set_failure(const std::string& text);

  // For dumps. All async-signal-safe; texts are JSON already.
  const Recorder& recorder() const { return recorder_; }
  int rank() const { return rank_; }
  int world_size() const { return world_size_; }
  int job_rank() const { return job_rank_; }
  const std::string& communicator() const { return communicator_; }
  const std::string& host() const { return host_; }
  const std::string& job() const { return job_; }
  const std::string& directory() const { return directory_; }  // as it is
  const std::string* failure() const { return failure_.load(std::memory_order_acquire); }

 private:
  const Recorder& recorder_;
  int rank_;
  int world_size_;
  int job_rank_;
  std::string communicator_;
  std::string host_;
  std::string job_;
  std::string directory_;
  std::unique_ptr<const std::string> failure_text_;
  std::atomic<const std::string*> failure_{nullptr};
};

// From enlist() to dismiss() dumps read the log; dismiss() waits for one that is under way.
void enlist(const Log& log);
void dismiss(const Log& log);

// The logs of this process, as long as this object lives. Async-signal-safe. Not to be held by a
// thread that calls dismiss().
class LogReader {
 public:
  LogReader();
  ~LogReader();
  LogReader(const LogReader&) = delete;
  LogReader& operator=(const LogReader&) = delete;
  // The next one, or nullptr; rewind() begins again.
  const Log* next();
  void rewind();

 private:
  const void* at_ = nullptr;
};

}  // namespace weft::comm::trace
