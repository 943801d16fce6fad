// One rank of this node while it runs: its process, its output, and what is to be told about it.
// Lives on the supervisor's io_context; not thread-safe.
#pragma once

#include <array>
#include <asio.hpp>
#include <chrono>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/job/lines.h"
#include "launcher/job/supervisor.h"

namespace weft::launcher {

class RankChild {
 public:
  struct Hooks {
    std::function<void(RankChild&)> exited;                // at once
    std::function<void(RankChild&)> ended;                 // and its output has been passed on
    std::function<void()> status_changed;                  // visible() has
    std::function<void(std::function<void()>)> when_room;  // calls back when output has room
  };

  // Starts it. `hooks` are called from the io_context only.
  RankChild(asio::io_context& io, RankStart start, bool relay_output, Output& output, Hooks hooks);
  ~RankChild();  // kills it
  RankChild(const RankChild&) = delete;
  RankChild& operator=(const RankChild&) = delete;

  int rank() const { return start_.rank; }
  pid_t pid() const { return process_.pid; }
  bool exited() const { return status_.has_value(); }
  bool ended() const { return ended_; }
  const std::optional<ExitStatus>& status() const { return status_; }
  RankEnd end() const;
  // The line this rank keeps rewriting, with its prefix; empty if there is none.
  std::string visible() const;

  void signal(int number);      // to its group; ignored once it has exited
  void kill_by_us(int number);  // the same, and remembers that its end is our doing

 private:
  struct Channel {
    Stream stream = Stream::out;
    std::optional<asio::posix::stream_descriptor> pipe;
    LineSplitter splitter;
    std::array<char, 65536> buffer;
  };

  void wait_for_exit();
  void read(Channel& channel);
  void take(Channel& channel, std::string_view bytes);
  void pass_on(Channel& channel, std::string_view line, std::string& batch);
  void close(Channel& channel);
  void drain(Channel& channel);
  void settle_if_quiet();
  void settle();

  RankStart start_;
  Output& output_;
  Hooks hooks_;
  std::chrono::steady_clock::time_point started_;
  std::chrono::steady_clock::time_point exited_at_;
  Process process_;
  std::optional<asio::posix::stream_descriptor> exit_;
  asio::steady_timer linger_;
  std::array<Channel, 2> channels_;
  std::deque<std::string> last_lines_;
  std::optional<ExitStatus> status_;
  bool killed_by_us_ = false;
  bool ended_ = false;
};

}  // namespace weft::launcher
