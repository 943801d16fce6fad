#include "comm/transport/tcp/socket.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "comm/transport/transport.h"
#include "kernels/base/error.h"

namespace weft::comm::tcp {

Socket::Socket(int peer, int fd, std::string name, std::uint64_t& bytes_moved)
    : peer_(peer), fd_(fd), name_(std::move(name)), bytes_moved_(bytes_moved) {}

Socket::~Socket() {
  if (fd_ >= 0) ::close(fd_);
}

void Socket::lost(const std::string& how) const {
  throw LinkLost(peer_, fmt::format("{} {}", name_, how));
}

void Socket::refuse_own(const char* call, int error) const {
  const bool own = error == EFAULT || error == ENOMEM || error == ENOBUFS || error == EINVAL ||
                   error == EBADF || error == ENOTSOCK;
  if (!own) return;
  fail<IoError>("{} on the connection to {} failed on this side ({}){}", call, name_,
                std::strerror(error),
                error == EFAULT ? ": is the buffer still mapped, and as long as said?" : "");
}

long Socket::receive(const iovec* parts, std::size_t count) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts);
  message.msg_iovlen = count;
  ssize_t n = -1;
  do {
    n = ::recvmsg(fd_, &message, MSG_DONTWAIT);
  } while (n < 0 && errno == EINTR);
  if (n >= 0) {
    bytes_moved_ += static_cast<std::uint64_t>(n);
    return n;
  }
  if (errno != EAGAIN && errno != EWOULDBLOCK) {
    const int error = errno;
    refuse_own("receiving", error);
    lost(fmt::format("lost its connection ({})", std::strerror(error)));
  }
  readable_ = false;
  return -1;
}

long Socket::send(const iovec* parts, std::size_t count, int& broken) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts);
  message.msg_iovlen = count;
  ssize_t n = -1;
  do {
    n = ::sendmsg(fd_, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (n < 0 && errno == EINTR);
  broken = 0;
  if (n >= 0) {
    bytes_moved_ += static_cast<std::uint64_t>(n);
    return n;
  }
  if (errno == EAGAIN || errno == EWOULDBLOCK) {
    writable_ = false;
    return -1;
  }
  broken = errno;
  refuse_own("sending", broken);
  return -1;
}

std::size_t Socket::unacknowledged() const {
  int bytes = 0;
  if (::ioctl(fd_, SIOCOUTQ, &bytes) != 0 || bytes < 0) return 0;
  return static_cast<std::size_t>(bytes);
}

void Socket::close_gently() {
  if (fd_ < 0) return;
  ::shutdown(fd_, SHUT_WR);
  std::array<std::byte, 16 << 10> unread;
  for (int k = 0; k < 64; ++k) {
    if (::recv(fd_, unread.data(), unread.size(), MSG_DONTWAIT) <= 0) break;
  }
  ::close(std::exchange(fd_, -1));
}

void Socket::close_now() {
  if (fd_ < 0) return;
  ::shutdown(fd_, SHUT_RDWR);
  ::close(std::exchange(fd_, -1));
}

}  // namespace weft::comm::tcp
