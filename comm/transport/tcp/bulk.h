// One of the connections that carry announced frames in segments, in both directions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "comm/transport/tcp/frame.h"
#include "comm/transport/tcp/socket.h"

namespace weft::comm::tcp {

// The announced frame that is being received: where its segments go, and which have come.
struct Incoming {
  std::uint64_t frame = 0;
  std::byte* into = nullptr;
  std::size_t bytes = 0;
  std::size_t segment_bytes = 0;  // of every segment but the last
  std::size_t missing = 0;        // segments
  std::vector<bool> has;
};

class Bulk {
 public:
  Bulk(int peer, int fd, std::string name, std::uint64_t& bytes_moved)
      : socket_(peer, fd, std::move(name), bytes_moved) {}

  // Sending: one segment at a time; idle once the kernel has all of it.
  bool idle() const { return send_data_ == nullptr; }
  void begin(std::uint64_t frame, std::size_t offset, const std::byte* data, std::size_t bytes);
  void push();
  std::size_t unsent() const { return idle() ? 0 : kHeader + send_header_.bytes - sent_; }
  std::size_t unacknowledged() const { return socket_.unacknowledged(); }

  // Takes the segments of `incoming` that are there, straight into place; leaves those of later
  // frames alone. Corrupt and LinkLost as links throw them.
  void pull(Incoming& incoming);
  bool ended() const { return ended_; }  // the peer has closed its side, and all that came is taken
  [[noreturn]] void lost() const {
    socket_.lost("closed its connections in the middle of a frame");
  }

  int fd() const { return socket_.fd(); }
  bool wants_read() const { return reading_ && !parked_ && !ended_; }
  bool wants_write() const { return !idle(); }
  void set_reading(bool reading) {
    reading_ = reading;
    parked_ = false;
    socket_.set_ready(true, socket_.writable());
  }
  void set_ready(bool can_read, bool can_write) { socket_.set_ready(can_read, can_write); }
  bool hangup_known() const { return hangup_known_; }
  // That a bulk connection ends while nothing is awaited means nothing: the link's own one tells.
  void look_at_hangup() { hangup_known_ = true; }

  void leave() { socket_.close_gently(); }
  void sever();

 private:
  static constexpr std::size_t kHeader = sizeof(SegmentHeader);
  void open_header(Incoming& incoming);
  void close_segment(Incoming& incoming);

  Socket socket_;
  bool hangup_known_ = false;

  SegmentHeader send_header_;
  const std::byte* send_data_ = nullptr;
  std::size_t sent_ = 0;  // header included

  bool reading_ = false;
  bool ended_ = false;
  bool parked_ = false;  // what comes next belongs to a later frame
  SegmentHeader header_;
  std::size_t header_got_ = 0;
  bool header_open_ = false;
  std::size_t received_ = 0;  // payload
};

}  // namespace weft::comm::tcp
