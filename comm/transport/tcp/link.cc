#include "comm/transport/tcp/link.h"

#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "kernels/base/check.h"

namespace weft::comm::tcp {

namespace {
constexpr std::size_t kHeader = sizeof(FrameHeader);
const std::byte kNothing{};  // where empty frames "are"
}  // namespace

TcpLink::TcpLink(int peer, int fd, std::string name, std::uint64_t& bytes_moved)
    : socket_(peer, fd, std::move(name), bytes_moved), buffer_(kBufferBytes) {}

// --- Sending.

void TcpLink::start_send(const FrameTag& tag, const void* data, Bytes bytes) {
  WEFT_ASSERT(!sending_, "one send at a time");
  send_header_ = make_header(FrameKind::data, tag, data, bytes.size());
  begin_send(data, bytes.size());
}

void TcpLink::start_announce(const FrameTag& tag, Bytes bytes) {
  WEFT_ASSERT(!sending_, "one send at a time");
  send_header_ = make_announcement(tag, bytes.size());
  begin_send(nullptr, 0);
}

void TcpLink::begin_send(const void* data, std::size_t bytes) {
  send_data_ = static_cast<const std::byte*>(data);
  send_bytes_ = bytes;
  sent_ = 0;
  sending_ = true;
  socket_.set_ready(socket_.readable(), true);
  push();
}

bool TcpLink::poll_send() {
  if (sending_ && socket_.writable()) push();
  return !sending_;
}

void TcpLink::push() {
  iovec parts[2];
  std::size_t count = 0;
  if (sent_ < kHeader) {
    parts[count++] = {reinterpret_cast<std::byte*>(&send_header_) + sent_, kHeader - sent_};
  }
  const std::size_t payload_sent = sent_ > kHeader ? sent_ - kHeader : 0;
  if (send_bytes_ > payload_sent) {
    parts[count++] = {const_cast<std::byte*>(send_data_) + payload_sent,
                      send_bytes_ - payload_sent};
  }
  int broken = 0;
  const long n = socket_.send(parts, count, broken);
  if (broken != 0) {
    hangup_known_ = false;
    if (!receiving_) look_at_hangup();  // it may have said why
    socket_.lost(fmt::format("cannot be reached any more ({})", std::strerror(broken)));
  }
  if (n < 0) return;
  sent_ += static_cast<std::size_t>(n);
  if (sent_ == kHeader + send_bytes_) sending_ = false;
}

// --- Receiving.

void TcpLink::start_recv(const FrameTag& tag, void* into, Bytes bytes, bool view_allowed) {
  WEFT_ASSERT(into != nullptr || always_views(bytes), "large frames need a place");
  begin_recv(FrameKind::data, tag, bytes.size());
  into_ = static_cast<std::byte*>(into);
  recv_bytes_ = bytes.size();
  view_allowed_ = view_allowed;
}

void TcpLink::start_recv_announced(const FrameTag& tag, Bytes bytes) {
  begin_recv(FrameKind::announced, tag, bytes.size());
  into_ = nullptr;
  recv_bytes_ = 0;
  view_allowed_ = true;
}

void TcpLink::begin_recv(FrameKind kind, const FrameTag& tag, std::size_t bytes) {
  WEFT_ASSERT(!receiving_, "one receive at a time");
  receiving_ = true;
  socket_.set_ready(true, socket_.writable());
  header_open_ = false;
  recv_kind_ = kind;
  recv_tag_ = tag;
  expected_bytes_ = bytes;
  received_ = 0;
  arrived_ = nullptr;
}

const void* TcpLink::poll_recv() {
  if (arrived_ != nullptr) return arrived_;
  if (!socket_.readable() && buffered() == 0) return nullptr;
  if (recv_bytes_ > kSmallBytes ? read_large() : read_small()) {
    const std::byte* payload = into_;
    const bool small = recv_bytes_ <= kSmallBytes;
    if (small) payload = buffer_.data() + head_ + kHeader;
    if (hash_of(payload, recv_bytes_) != recv_header_.payload_hash) {
      fail<Corrupt>(
          "{}: the checksum of a frame of {} bytes is wrong: bytes changed on the way; check "
          "memory "
          "and network of both hosts",
          socket_.name(), recv_bytes_);
    }
    if (small && !view_allowed_ && recv_bytes_ > 0) std::memcpy(into_, payload, recv_bytes_);
    arrived_ = small && view_allowed_ ? payload : into_;
    if (recv_bytes_ == 0) arrived_ = &kNothing;
  }
  return arrived_;
}

void TcpLink::finish_recv() {
  WEFT_ASSERT(arrived_ != nullptr, "nothing has arrived");
  head_ += kHeader + (recv_bytes_ <= kSmallBytes ? recv_bytes_ : 0);
  if (head_ == tail_) head_ = tail_ = 0;
  receiving_ = false;
  arrived_ = nullptr;
}

// Header (and the small payload) into the buffer.
bool TcpLink::read_small() {
  if (!header_open_) {
    if (buffered() < kHeader && !fill(kHeader)) return false;
    open_header();
  }
  const std::size_t whole = kHeader + recv_bytes_;
  return buffered() >= whole || fill(whole);
}

// The header into the buffer, the payload straight into place.
bool TcpLink::read_large() {
  if (!header_open_) {
    while (buffered() < kHeader) {
      if (head_ > 0) {
        std::memmove(buffer_.data(), buffer_.data() + head_, buffered());
        tail_ -= head_;
        head_ = 0;
      }
      const std::size_t missing = kHeader - buffered();
      const long n = receive(buffer_.data() + tail_, missing, into_, recv_bytes_);
      if (n < 0) return false;
      const std::size_t of_header = std::min(static_cast<std::size_t>(n), missing);
      tail_ += of_header;
      received_ = static_cast<std::size_t>(n) - of_header;
    }
    open_header();
    // What earlier calls read beyond the header belongs to the payload.
    const std::size_t early = std::min(buffered() - kHeader, recv_bytes_);
    if (early > 0) {
      std::memcpy(into_, buffer_.data() + head_ + kHeader, early);
      received_ = early;
      const std::size_t rest = buffered() - kHeader - early;
      std::byte* behind = buffer_.data() + head_ + kHeader;
      std::memmove(behind, behind + early, rest);
      tail_ -= early;
    }
  }
  while (received_ < recv_bytes_) {
    const long n = receive(into_ + received_, recv_bytes_ - received_, nullptr, 0);
    if (n < 0) return false;
    received_ += static_cast<std::size_t>(n);
  }
  return true;
}

// Compares the header in the buffer with what is expected.
void TcpLink::open_header() {
  std::memcpy(&recv_header_, buffer_.data() + head_, kHeader);
  if (!is_sound(recv_header_)) {
    fail<Corrupt>("{}: what came is no frame header: bytes changed on the way", socket_.name());
  }
  if (recv_header_.kind == FrameKind::goodbye)
    socket_.lost("has left: its communicator was destroyed");
  if (recv_header_.kind != recv_kind_ || !(recv_header_.tag == recv_tag_) ||
      recv_header_.bytes != expected_bytes_) {
    throw FrameMismatch(socket_.peer(), recv_tag_,
                        Bytes(static_cast<std::int64_t>(expected_bytes_)), recv_header_.tag,
                        Bytes(static_cast<std::int64_t>(recv_header_.bytes)));
  }
  header_open_ = true;
}

bool TcpLink::fill(std::size_t wanted) {
  if (head_ + wanted > buffer_.size()) {
    std::memmove(buffer_.data(), buffer_.data() + head_, buffered());
    tail_ -= head_;
    head_ = 0;
  }
  while (buffered() < wanted) {
    const long n = receive(buffer_.data() + tail_, buffer_.size() - tail_, nullptr, 0);
    if (n < 0) return false;
    tail_ += static_cast<std::size_t>(n);
  }
  return true;
}

// Bytes received, or -1 if there are none now.
long TcpLink::receive(void* a, std::size_t a_bytes, void* b, std::size_t b_bytes) {
  const iovec parts[2] = {{a, a_bytes}, {b, b_bytes}};
  const long n = socket_.receive(parts, b_bytes > 0 ? 2 : 1);
  if (n == 0) {
    socket_.lost(header_open_ ? "closed its connection in the middle of a frame"
                              : "closed its connection");
  }
  return n;
}

void TcpLink::look_at_hangup() {
  if (hangup_known_ || receiving_) return;
  if (head_ > 0 && buffered() > 0) {
    std::memmove(buffer_.data(), buffer_.data() + head_, buffered());
    tail_ -= head_;
    head_ = 0;
  }
  while (tail_ < buffer_.size()) {
    ssize_t n = ::recv(fd(), buffer_.data() + tail_, buffer_.size() - tail_, MSG_DONTWAIT);
    const int error = errno;
    if (n < 0 && error == EINTR) continue;
    if (n < 0 && (error == EAGAIN || error == EWOULDBLOCK)) return;
    if (n <= 0) {
      if (n < 0) socket_.refuse_own("receiving", error);
      hangup_known_ = true;
      if (buffered() > 0) return;  // whoever asks for these frames learns the rest
      socket_.lost(n == 0 ? "closed its connection"
                          : fmt::format("lost its connection ({})", std::strerror(error)));
    }
    tail_ += static_cast<std::size_t>(n);
  }
  hangup_known_ = true;
}

// --- The end.

void TcpLink::leave() {
  if (!socket_.open()) return;
  if (sending_ || receiving_) return sever();
  const FrameHeader header = make_header(FrameKind::goodbye, FrameTag{}, nullptr, 0);
  [[maybe_unused]] const ssize_t n =
      ::send(fd(), &header, sizeof header, MSG_NOSIGNAL | MSG_DONTWAIT);
  socket_.close_gently();
}

void TcpLink::sever() {
  sending_ = receiving_ = false;
  arrived_ = nullptr;
  socket_.close_now();
}

}  // namespace weft::comm::tcp
