// Reads a timeline file, line by line: it may be far larger than memory.
//
// Everything is checked: a file that is damaged, or none of ours, gives Corrupt naming file, line
// and field; one that cannot be read gives IoError.
#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "comm/trace/timeline.h"

namespace weft::comm::trace {

struct TimelineHead {
  Identity identity;
  std::int64_t pid = 0;
  std::uint64_t number = 0;
  std::int64_t base_monotonic_ns = 0;
  std::int64_t base_epoch_ns = 0;
  std::string clock_id;
  std::vector<ClockPoint> clock;
  std::uint64_t dropped = 0;
};

// One line of the file. Times are nanoseconds since the file's base.
struct TimelineEvent {
  char phase = 'X';  // X: a slice, b and e: an operation begins and ends, M: a name
  std::string name;
  std::string category;
  std::int64_t process = 0;
  std::int64_t thread = 0;
  std::int64_t at_ns = 0;
  std::int64_t length_ns = 0;
  std::string id;         // of b and e
  std::string arguments;  // JSON, as it was; empty: none
  // Of slices of category "message".
  bool is_message = false;
  int peer = -1;  // in the job
  int lane = 0;
  std::int64_t sequence = 0;
  std::int64_t index = 0;
  bool cut = false;
};

class TimelineReader {
 public:
  explicit TimelineReader(const std::string& path);  // reads the head

  const std::string& path() const { return path_; }
  const TimelineHead& head() const { return head_; }
  bool next(TimelineEvent& event);  // false at the end

 private:
  std::string read_line();
  void read_head();
  void parse(const std::string& text, TimelineEvent& event);

  std::string path_;
  std::ifstream in_;
  std::uint64_t line_ = 0;
  bool over_ = false;
  bool last_ = false;  // the line that was read had no comma
  TimelineHead head_;
};

}  // namespace weft::comm::trace
