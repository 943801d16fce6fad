// What a simulation did, as a trace that Perfetto and chrome://tracing open (the Trace Event
// Format): ranks are processes; a rank's core and each of its sending queues are tracks. Times are
// microseconds of simulated time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace weft::comm::simulate {

class Timeline {
 public:
  // Keeps what ranks 0 .. ranks_max - 1 do, and `slices_max` slices at most.
  explicit Timeline(std::int32_t ranks_max, std::size_t slices_max = 2'000'000)
      : ranks_max_(ranks_max), slices_max_(slices_max) {}

  enum class Kind : std::uint8_t { send, receive, reduce, copy, transfer };

  bool keeps(std::int32_t rank) const { return rank < ranks_max_; }
  // `peer` -1: none. A transfer is on the track of (rank, peer, lane), everything else on the
  // core's.
  void add(Kind kind, std::int32_t rank, std::int32_t peer, std::int32_t lane, double start_us,
           double end_us, double bytes);

  std::size_t slices() const { return slices_.size(); }
  bool truncated() const { return truncated_; }

  // Throws IoError if the file cannot be written.
  void write(const std::string& path, const std::string& title) const;

 private:
  struct Slice {
    double start_us;
    double end_us;
    double bytes;
    std::int32_t rank;
    std::int32_t peer;
    std::int16_t lane;
    Kind kind;
  };

  std::int32_t ranks_max_;
  std::size_t slices_max_;
  bool truncated_ = false;
  std::vector<Slice> slices_;
};

}  // namespace weft::comm::simulate
