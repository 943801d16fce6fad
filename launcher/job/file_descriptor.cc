#include "launcher/job/file_descriptor.h"

#include <fcntl.h>

#include <cerrno>
#include <system_error>

#include "kernels/base/error.h"

namespace weft::launcher {

std::string errno_text(int number) { return std::generic_category().message(number); }

FileDescriptor duplicate_high(int fd) {
  const int high = fcntl(fd, F_DUPFD_CLOEXEC, kHighDescriptor);
  if (high < 0) fail<IoError>("cannot duplicate a file descriptor: {}", errno_text(errno));
  return FileDescriptor(high);
}

Pipe make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    fail<IoError>("cannot make a pipe for a rank: {} (see ulimit -n)", errno_text(errno));
  }
  const FileDescriptor low_read(ends[0]);
  const FileDescriptor low_write(ends[1]);
  return {duplicate_high(ends[0]), duplicate_high(ends[1])};
}

FileDescriptor open_null(int flags) {
  const FileDescriptor low(open("/dev/null", flags | O_CLOEXEC));
  if (!low) fail<IoError>("cannot open /dev/null: {}", errno_text(errno));
  return duplicate_high(low.get());
}

}  // namespace weft::launcher
