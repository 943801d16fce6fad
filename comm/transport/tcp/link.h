// A link over one TCP connection.
//
// Small frames are read in one system call into the link's buffer and stay there for the caller to
// look at; of large ones the payload is received straight into place, header and payload in one
// call. A send goes out as far as the socket takes it, header and payload in one call.
//
// A frame may also be announced: then only its header, with tag and length, goes this way, and the
// payload over other connections (striped.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "comm/transport/tcp/frame.h"
#include "comm/transport/tcp/socket.h"
#include "comm/transport/transport.h"

namespace weft::comm::tcp {

inline constexpr std::size_t kSmallBytes = 8 << 10;  // payloads up to here go through the buffer
inline constexpr std::size_t kBufferBytes = 16 << 10;

class TcpLink final : public Link {
 public:
  // Takes the connected, non-blocking socket `fd`. `name` is the peer's in messages: "rank 3 (tcp
  // 10.0.0.2:51234)".
  TcpLink(int peer, int fd, std::string name, std::uint64_t& bytes_moved);

  void start_send(const FrameTag& tag, const void* data, Bytes bytes) override;
  bool poll_send() override;
  void start_recv(const FrameTag& tag, void* into, Bytes bytes, bool view_allowed) override;
  const void* poll_recv() override;
  void finish_recv() override;
  bool always_views(Bytes bytes) const override { return bytes.size() <= kSmallBytes; }

  // The header alone; poll_send() and poll_recv() as for an empty frame.
  void start_announce(const FrameTag& tag, Bytes bytes);
  void start_recv_announced(const FrameTag& tag, Bytes bytes);

  int fd() const { return socket_.fd(); }
  bool wants_read() const { return receiving_ && arrived_ == nullptr; }
  bool wants_write() const { return sending_; }
  bool busy() const { return sending_ || receiving_; }
  // What poll() said; a link that is not ready saves its system calls.
  void set_ready(bool can_read, bool can_write) { socket_.set_ready(can_read, can_write); }
  bool hangup_known() const { return hangup_known_; }
  // The peer closed its side while nothing is awaited: throws LinkLost unless it said goodbye, or
  // frames that are still to be asked for came before.
  void look_at_hangup();

  void leave();  // goodbye, if no frame is on its way
  void sever();

 private:
  std::size_t buffered() const { return tail_ - head_; }
  void begin_send(const void* data, std::size_t bytes);
  void begin_recv(FrameKind kind, const FrameTag& tag, std::size_t bytes);
  bool fill(std::size_t wanted);
  bool read_small();
  bool read_large();
  void open_header();
  long receive(void* a, std::size_t a_bytes, void* b, std::size_t b_bytes);
  void push();

  Socket socket_;
  bool hangup_known_ = false;

  bool sending_ = false;
  FrameHeader send_header_;
  const std::byte* send_data_ = nullptr;
  std::size_t send_bytes_ = 0;  // payload
  std::size_t sent_ = 0;        // header included

  std::vector<std::byte> buffer_;
  std::size_t head_ = 0;
  std::size_t tail_ = 0;

  bool receiving_ = false;
  bool header_open_ = false;  // the frame's header has been read and agrees
  bool view_allowed_ = false;
  const void* arrived_ = nullptr;
  FrameKind recv_kind_ = FrameKind::data;
  FrameTag recv_tag_;
  std::size_t expected_bytes_ = 0;  // what the header must say
  std::byte* into_ = nullptr;
  std::size_t recv_bytes_ = 0;  // payload that comes on this connection
  std::size_t received_ = 0;    // payload in place, of large frames
  FrameHeader recv_header_;
};

}  // namespace weft::comm::tcp
