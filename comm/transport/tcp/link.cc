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
    : peer_(peer),
      fd_(fd),
      name_(std::move(name)),
      bytes_moved_(bytes_moved),
      buffer_(kBufferBytes) {}

TcpLink::~TcpLink() {
  if (fd_ >= 0) ::close(fd_);
}

void TcpLink::lost(const std::string& how) {
  throw LinkLost(peer_, fmt::format("{} {}", name_, how));
}

void TcpLink::refuse_own(const char* call, int error) const {
  const bool own = error == EFAULT || error == ENOMEM || error == ENOBUFS || error == EINVAL ||
                   error == EBADF || error == ENOTSOCK;
  if (!own) return;
  fail<IoError>("{} on the connection to {} failed on this side ({}){}", call, name_,
                std::strerror(error),
                error == EFAULT ? ": is the buffer still mapped, and as long as said?" : "");
}

// --- Sending.

void TcpLink::start_send(const FrameTag& tag, const void* data, Bytes bytes) {
  WEFT_ASSERT(!sending_, "one send at a time");
  send_header_ = make_header(FrameKind::data, tag, data, bytes.size());
  send_data_ = static_cast<const std::byte*>(data);
  sent_ = 0;
  sending_ = true;
  writable_ = true;
  push();
}

bool TcpLink::poll_send() {
  if (sending_ && writable_) push();
  return !sending_;
}

void TcpLink::push() {
  const std::size_t total = kHeader + send_header_.bytes;
  iovec parts[2];
  std::size_t count = 0;
  if (sent_ < kHeader) {
    parts[count++] = {reinterpret_cast<std::byte*>(&send_header_) + sent_, kHeader - sent_};
  }
  const std::size_t payload_sent = sent_ > kHeader ? sent_ - kHeader : 0;
  if (send_header_.bytes > payload_sent) {
    parts[count++] = {const_cast<std::byte*>(send_data_) + payload_sent,
                      send_header_.bytes - payload_sent};
  }
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = count;
  ssize_t n = -1;
  do {
    n = ::sendmsg(fd_, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (n < 0 && errno == EINTR);
  if (n < 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK) return;
    const int error = errno;
    refuse_own("sending", error);
    hangup_known_ = false;
    if (!receiving_) look_at_hangup();  // it may have said why
    lost(fmt::format("cannot be reached any more ({})", std::strerror(error)));
  }
  sent_ += static_cast<std::size_t>(n);
  bytes_moved_ += static_cast<std::uint64_t>(n);
  if (sent_ == total) sending_ = false;
}

// --- Receiving.

void TcpLink::start_recv(const FrameTag& tag, void* into, Bytes bytes, bool view_allowed) {
  WEFT_ASSERT(!receiving_, "one receive at a time");
  WEFT_ASSERT(into != nullptr || always_views(bytes), "large frames need a place");
  receiving_ = true;
  readable_ = true;
  header_open_ = false;
  recv_tag_ = tag;
  into_ = static_cast<std::byte*>(into);
  recv_bytes_ = bytes.size();
  view_allowed_ = view_allowed;
  received_ = 0;
  arrived_ = nullptr;
}

const void* TcpLink::poll_recv() {
  if (arrived_ != nullptr) return arrived_;
  if (!readable_ && buffered() == 0) return nullptr;
  if (recv_bytes_ > kSmallBytes ? read_large() : read_small()) {
    const std::byte* payload = into_;
    const bool small = recv_bytes_ <= kSmallBytes;
    if (small) payload = buffer_.data() + head_ + kHeader;
    if (hash_of(payload, recv_bytes_) != recv_header_.payload_hash) {
      fail<Corrupt>(
          "{}: the checksum of a frame of {} bytes is wrong: bytes changed on the way; check "
          "memory "
          "and network of both hosts",
          name_, recv_bytes_);
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
    fail<Corrupt>("{}: what came is no frame header: bytes changed on the way", name_);
  }
  if (recv_header_.kind == FrameKind::goodbye) lost("has left: its communicator was destroyed");
  if (!(recv_header_.tag == recv_tag_) || recv_header_.bytes != recv_bytes_) {
    throw FrameMismatch(peer_, recv_tag_, Bytes(static_cast<std::int64_t>(recv_bytes_)),
                        recv_header_.tag, Bytes(static_cast<std::int64_t>(recv_header_.bytes)));
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
  iovec parts[2] = {{a, a_bytes}, {b, b_bytes}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = b_bytes > 0 ? 2 : 1;
  ssize_t n = -1;
  do {
    n = ::recvmsg(fd_, &message, MSG_DONTWAIT);
  } while (n < 0 && errno == EINTR);
  if (n > 0) {
    bytes_moved_ += static_cast<std::uint64_t>(n);
    return n;
  }
  if (n == 0)
    lost(header_open_ ? "closed its connection in the middle of a frame" : "closed its connection");
  if (errno != EAGAIN && errno != EWOULDBLOCK) {
    refuse_own("receiving", errno);
    lost(fmt::format("lost its connection ({})", std::strerror(errno)));
  }
  readable_ = false;
  return -1;
}

void TcpLink::look_at_hangup() {
  if (hangup_known_ || receiving_) return;
  if (head_ > 0 && buffered() > 0) {
    std::memmove(buffer_.data(), buffer_.data() + head_, buffered());
    tail_ -= head_;
    head_ = 0;
  }
  while (tail_ < buffer_.size()) {
    ssize_t n = ::recv(fd_, buffer_.data() + tail_, buffer_.size() - tail_, MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (n <= 0) {
      if (n < 0) refuse_own("receiving", errno);
      hangup_known_ = true;
      if (buffered() > 0) return;  // whoever asks for these frames learns the rest
      lost(n == 0 ? "closed its connection"
                  : fmt::format("lost its connection ({})", std::strerror(errno)));
    }
    tail_ += static_cast<std::size_t>(n);
  }
  hangup_known_ = true;
}

// --- The end.

void TcpLink::leave() {
  if (fd_ < 0) return;
  if (sending_ || receiving_) return sever();
  const FrameHeader header = make_header(FrameKind::goodbye, FrameTag{}, nullptr, 0);
  [[maybe_unused]] const ssize_t n =
      ::send(fd_, &header, sizeof header, MSG_NOSIGNAL | MSG_DONTWAIT);
  ::shutdown(fd_, SHUT_WR);
  // Closing with unread bytes would reset the connection and could take back what we sent.
  for (int k = 0; k < 64; ++k) {
    if (::recv(fd_, buffer_.data(), buffer_.size(), MSG_DONTWAIT) <= 0) break;
  }
  ::close(std::exchange(fd_, -1));
}

void TcpLink::sever() {
  sending_ = receiving_ = false;
  arrived_ = nullptr;
  if (fd_ < 0) return;
  ::shutdown(fd_, SHUT_RDWR);
  ::close(std::exchange(fd_, -1));
}

}  // namespace weft::comm::tcp
