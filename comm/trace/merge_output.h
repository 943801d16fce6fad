// The file that `weft trace merge` writes.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <unordered_map>

#include "comm/trace/merge.h"

namespace weft::comm::trace {

class MergeOutput {
 public:
  // Times in the file count from `base_ns` of the reference clock.
  MergeOutput(std::string path, std::int64_t base_ns);
  ~MergeOutput();  // nothing is left unless it is finished
  MergeOutput(const MergeOutput&) = delete;
  MergeOutput& operator=(const MergeOutput&) = delete;

  void learn(const TimelineHead& head, const TimelineEvent& event);  // before begin()
  void begin(const std::string& about);  // a JSON member: what the file says of itself
  // `process`: which of the merged processes, from 0.
  void add(const TimelineHead& head, const ClockMap& clock, int process,
           const TimelineEvent& event);
  void finish();

  std::uint64_t events() const { return events_; }
  std::uint64_t arrows() const { return arrows_; }

 private:
  // Communicator, sender, receiver, lane, sequence, index: the same at both ends of a message.
  using Message = std::tuple<int, int, int, int, std::int64_t, std::int64_t>;
  Message message_of(const TimelineHead& head, const TimelineEvent& event);
  void line(const std::string& text);
  void put(std::string_view text);
  void add_arrow(const TimelineHead& head, int process, const TimelineEvent& event,
                 std::int64_t begin_ns, std::int64_t length_ns);

  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::string path_;
  std::string side_path_;
  std::int64_t base_ns_;
  std::unique_ptr<std::FILE, Close> file_;
  std::map<std::string, int> communicators_;
  std::map<Message, std::uint64_t> sends_;  // seen, and the number of its arrow; 0: no receive
  std::uint64_t events_ = 0;
  std::uint64_t arrows_ = 0;
  bool first_ = true;
};

}  // namespace weft::comm::trace
