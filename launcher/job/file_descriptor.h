// A file descriptor that closes itself.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <utility>

#include "kernels/base/error.h"

namespace weft::launcher {

class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor() { close(); }
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(other.release()) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    if (this != &other) {
      close();
      fd_ = other.release();
    }
    return *this;
  }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

 private:
  int fd_ = -1;
};

// Descriptors handed to children are kept at kHighDescriptor or above, so that moving them onto
// 0, 1 and 2 never overwrites one that is still needed, even where we were started with those
// closed.
inline constexpr int kHighDescriptor = 16;

struct Pipe {
  FileDescriptor read;
  FileDescriptor write;
};
Pipe make_pipe();                       // close-on-exec, both ends high; throws IoError
FileDescriptor duplicate_high(int fd);  // close-on-exec; throws IoError
FileDescriptor open_null(int flags);    // /dev/null, high
std::string errno_text(int number);     // "No such file or directory"

}  // namespace weft::launcher
