// Joins the timelines of a job's ranks into one file that Perfetto and chrome://tracing open: one
// process a rank, the threads that called and drove, a track for each direction of each link, and
// arrows from sends to the receives they match. Times are those of the first rank's clock.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "comm/trace/timeline_reader.h"

namespace weft::comm::trace {

// How one file's times become those of the reference. Between two measurements the offset is
// interpolated, before and after them it goes on with the same slope.
class ClockMap {
 public:
  enum class Source : std::uint8_t {
    reference,   // the clock itself, or one that all its processes share
    measured,    // by ranks of that host
    wall_clock,  // nothing better is known
  };
  // `points`: none for the reference's own clock.
  ClockMap(Source source, std::vector<ClockPoint> points) : source_(source) {
    set_points(std::move(points));
  }
  std::int64_t to_reference(std::int64_t monotonic_ns) const;
  Source source() const { return source_; }
  std::int64_t uncertainty_ns() const;  // the largest; meaningless for wall_clock
  const std::vector<ClockPoint>& points() const { return points_; }

 private:
  void set_points(std::vector<ClockPoint> points);
  Source source_;
  std::vector<ClockPoint> points_;  // ascending
};

struct MergeOptions {
  std::vector<std::string> inputs;  // files, or directories with timeline.*.json
  std::string output;
  std::string job;  // which, if there are several
};

struct MergeReport {
  int files = 0;
  int ranks = 0;
  std::uint64_t events = 0;
  std::uint64_t arrows = 0;
  std::uint64_t dropped = 0;        // by the ranks, for lack of room
  std::vector<std::string> clocks;  // a line each: what was done about it
};

// Throws Corrupt (naming file, line and field), IoError, InvalidArgument (no timelines, several
// jobs, the same rank twice). The output is written beside its place and renamed.
MergeReport merge_timelines(const MergeOptions& options);

}  // namespace weft::comm::trace
