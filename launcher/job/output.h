// What the launcher writes to its own standard output and error: whole lines, from one thread.
//
// A reader of ours that is slow (a pager, say) must not keep us from watching the ranks, so writing
// is done on a thread of its own. The queue is bounded by those who feed it: they stop reading from
// the ranks while full() and go on when told. Thread-safe.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace weft::launcher {

enum class Stream { out, error };

class Output {
 public:
  Output(int out_fd, int error_fd);
  ~Output();  // drains for a bounded time, like drain(10 s)
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  void write(Stream stream, std::string_view lines);  // each with its "\n"; never blocks

  // A line that is being rewritten, shown below all others where standard error is a terminal.
  // Empty: none.
  void set_status(std::string_view text);
  bool has_terminal() const { return terminal_; }

  bool full() const;
  // Calls back once (from the writing thread) when there is room again.
  void when_room(std::function<void()> callback);
  // Calls back once (from the writing thread) when nobody reads standard output any more.
  void on_closed(std::function<void()> callback);
  // False if the reader was too slow.
  bool drain(std::chrono::milliseconds timeout);

 private:
  struct State;
  static void run(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
  bool terminal_ = false;
};

}  // namespace weft::launcher
