// A connected, non-blocking socket to a peer, and what its errors mean.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace weft::comm::tcp {

class Socket {
 public:
  // Takes `fd`. `name` is the peer's in messages: "rank 3 (tcp 10.0.0.2:51234)"; what moves is
  // added to bytes_moved, which must outlive this.
  Socket(int peer, int fd, std::string name, std::uint64_t& bytes_moved);
  ~Socket();
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  int peer() const { return peer_; }
  int fd() const { return fd_; }
  bool open() const { return fd_ >= 0; }
  const std::string& name() const { return name_; }

  // What poll() said; a socket that is not ready saves its system calls.
  bool readable() const { return readable_; }
  bool writable() const { return writable_; }
  void set_ready(bool can_read, bool can_write) {
    readable_ = can_read;
    writable_ = can_write;
  }

  // Bytes received; 0 at the end of the stream; -1 if there are none now. LinkLost if the
  // connection broke, IoError if this process is at fault.
  long receive(const iovec* parts, std::size_t count);
  // Bytes the kernel took, -1 if it takes none now; -1 and an error number if the connection broke.
  // IoError as above.
  long send(const iovec* parts, std::size_t count, int& broken);
  // Written and not yet acknowledged by the peer's kernel; 0 where that cannot be known.
  std::size_t unacknowledged() const;

  [[noreturn]] void lost(const std::string& how) const;
  // Throws IoError if `error` of a socket call is about this process, and says nothing of the peer.
  void refuse_own(const char* call, int error) const;

  // Reads away what nobody will ask for any more, then closes: closing with unread bytes would
  // reset the connection and could take back what was sent.
  void close_gently();
  void close_now();

 private:
  int peer_;
  int fd_;
  std::string name_;
  std::uint64_t& bytes_moved_;
  bool readable_ = true;
  bool writable_ = true;
};

}  // namespace weft::comm::tcp
