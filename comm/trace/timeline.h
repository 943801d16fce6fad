// The timeline of one communicator on one rank: what happened when, for `weft trace merge` and
// Perfetto. Off unless asked for.
//
// Each thread writes events into a track of its own, which is allocated with its first event and
// holds a fixed number; what comes when it is full is counted and dropped. push() takes no lock
// (but for a thread's first event) and never throws. write() may run at any time: it writes what is
// complete.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "comm/trace/clock.h"
#include "comm/trace/log.h"

namespace weft::comm::trace {

enum class EventKind : std::uint8_t {
  operation,  // a collective or message, from its call to its completion; these may overlap
  call,       // a thread inside a blocking call
  send,       // one message (one tile) on its link
  receive,    // from when this rank was ready for it until it was taken
  reduce,     // a local reduction
  copy,
  move,   // a part of a memory schedule: waiting over, copied or reduced in place
  wait,   // a driving thread finds nothing to do, polling at first ...
  block,  // ... and then asleep until something moves
};
inline constexpr int kEventKindCount = 9;

struct Event {
  EventKind kind = EventKind::wait;
  bool cut = false;  // it failed, or was never finished
  std::uint8_t collective = 0;
  std::uint8_t dtype = 0;
  std::uint8_t op = 0;
  std::uint8_t algorithm = 0;
  std::int8_t lane = 0;
  Ticks begin = 0;
  Ticks end = 0;
  std::uint64_t serial = 0;  // of operations: the recorder's
  std::uint64_t bytes = 0;
  std::uint32_t sequence = 0;  // of the operation it belongs to
  // Of messages on a link: in this communicator. Of operations: see CallFields::root.
  std::int32_t peer = -1;
  std::int32_t index = 0;  // k-th message of its operation on its link
};

// What one rank measured of the clock of rank 0: add `offset_ns` to this rank's CLOCK_MONOTONIC,
// at `at_ns` of it, for that of rank 0.
struct ClockPoint {
  std::int64_t at_ns = 0;
  std::int64_t offset_ns = 0;
  std::int64_t uncertainty_ns = 0;  // half of the round trip: the offset is no further off
};

class Timeline {
 public:
  static constexpr std::size_t kEventsDefault = std::size_t{1} << 18;  // a thread: 17 MB, if used
  static constexpr std::size_t kEventsMax = std::size_t{1} << 24;
  static constexpr std::size_t kTracksMax = 64;

  // `directory` is there. `names[r]`: the rank in the job of rank r of the communicator.
  Timeline(Identity identity, std::string directory, std::size_t events_max,
           std::vector<int> names);
  ~Timeline();

  void push(const Event& event);
  // What the calling thread is called in the timeline; else "caller".
  void name_thread(const char* name);
  void add_clock_point(const ClockPoint& point);

  // DIR/timeline.RANK.PID.NUMBER.json, whole or not at all. Throws IoError.
  void write();

  // What write() makes of it: lines of Chrome's trace event format; see docs/trace.md.
  std::string text();
  std::uint64_t dropped();

 private:
  struct Track;
  Track* track();
  Track* find_track();

  Identity identity_;
  std::string directory_;
  std::size_t events_max_;
  std::vector<int> names_;
  std::uint64_t number_;  // of the timeline in this process
  Ticks base_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Track>> tracks_;
  std::vector<ClockPoint> clock_points_;
  std::atomic<std::uint64_t> homeless_{0};  // events of threads that got no track
};

}  // namespace weft::comm::trace
