// A bare TCP socket for tests that play strangers. Every wait is bounded.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace weft::comm {

// The soft limit, where the hard one permits.
inline bool raise_descriptor_limit(rlim_t wanted) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_max < wanted) return false;
  if (limit.rlim_cur >= wanted) return true;
  limit.rlim_cur = wanted;
  return ::setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

class RawSocket {
 public:
  explicit RawSocket(int fd) : fd_(fd) {
    if (fd < 0) throw std::runtime_error("no socket: errno " + std::to_string(errno));
  }
  RawSocket(RawSocket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  RawSocket& operator=(RawSocket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~RawSocket() {
    if (fd_ >= 0) ::close(fd_);
  }

  static RawSocket unconnected() {
    return RawSocket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  }
  static RawSocket connect(std::uint16_t port) {
    RawSocket socket = unconnected();
    socket.connect_to(port);
    return socket;
  }
  void connect_to(std::uint16_t port) {
    const sockaddr_in where = loopback(port);
    if (::connect(fd_, reinterpret_cast<const sockaddr*>(&where), sizeof(where)) != 0) {
      throw std::runtime_error("cannot connect: errno " + std::to_string(errno));
    }
  }
  // Bound to a port of loopback; listens only if told to.
  static RawSocket bind(bool listens) {
    RawSocket socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int on = 1;
    ::setsockopt(socket.fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    const sockaddr_in where = loopback(0);
    if (::bind(socket.fd_, reinterpret_cast<const sockaddr*>(&where), sizeof(where)) != 0 ||
        (listens && ::listen(socket.fd_, 16) != 0)) {
      throw std::runtime_error("cannot bind: errno " + std::to_string(errno));
    }
    return socket;
  }
  static bool has_ipv6() {
    const int fd = ::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return false;
    const RawSocket socket(fd);
    sockaddr_in6 where{};
    where.sin6_family = AF_INET6;
    where.sin6_addr = in6addr_loopback;
    return ::bind(fd, reinterpret_cast<const sockaddr*>(&where), sizeof(where)) == 0;
  }
  RawSocket accept() {
    await(POLLIN, std::chrono::seconds(20));
    return RawSocket(::accept(fd_, nullptr, nullptr));
  }
  std::uint16_t port() const {
    sockaddr_in where{};
    socklen_t length = sizeof(where);
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&where), &length);
    return ntohs(where.sin_port);
  }

  // False when the other end has closed.
  bool send(std::span<const std::uint8_t> bytes) {
    while (!bytes.empty()) {
      const auto sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes = bytes.subspan(static_cast<std::size_t>(sent));
    }
    return true;
  }
  bool send(const std::string& text) {
    return send({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
  }
  // Up to `count` bytes; fewer when the other end closes first. Throws when nothing happens.
  std::vector<std::uint8_t> receive(std::size_t count,
                                    std::chrono::milliseconds patience = std::chrono::seconds(20)) {
    std::vector<std::uint8_t> bytes(count);
    std::size_t got = 0;
    while (got < count) {
      await(POLLIN, patience);
      const auto more = ::recv(fd_, bytes.data() + got, count - got, 0);
      if (more <= 0) break;
      got += static_cast<std::size_t>(more);
    }
    bytes.resize(got);
    return bytes;
  }
  bool closed_by_peer(std::chrono::milliseconds patience = std::chrono::seconds(20)) {
    return receive(1, patience).empty();
  }

 private:
  static sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    where.sin_port = htons(port);
    return where;
  }
  void await(short events, std::chrono::milliseconds patience) {
    pollfd waiting{fd_, events, 0};
    if (::poll(&waiting, 1, static_cast<int>(patience.count())) != 1) {
      throw std::runtime_error("nothing happened on a socket in time");
    }
  }
  int fd_;
};

}  // namespace weft::comm
