#include "kernels/base/regular_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "kernels/base/system_error.h"

namespace weft {

namespace {

const char* kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

void check(int result, const struct stat& status, const std::string& what) {
  if (result != 0) {
    fail<IoError>("{}: cannot read it: {}", what, text_of_system_error(errno));
  }
  if (!S_ISREG(status.st_mode)) {
    fail<IoError>("{}: expected a regular file, found {}", what, kind_of(status.st_mode));
  }
}

}  // namespace

void expect_regular_file(const std::string& path, const std::string& what) {
  struct stat status {};
  const int result = ::stat(path.c_str(), &status);
  check(result, status, what);
}

FileDescriptor open_regular_file(const std::string& path, const std::string& what) {
  expect_regular_file(path, what);  // opening alone can mean something to a device
  FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!file) fail<IoError>("{}: cannot read it: {}", what, text_of_system_error(errno));
  struct stat status {};
  const int result = ::fstat(file.get(), &status);
  check(result, status, what);
  return file;
}

std::string read_regular_file(const std::string& path, const std::string& what,
                              std::size_t bytes_max) {
  constexpr std::size_t kPart = 1 << 16;
  const FileDescriptor file = open_regular_file(path, what);
  std::string text;
  for (;;) {
    const std::size_t have = text.size();
    text.resize(have + std::min(kPart, bytes_max + 1 - have));
    const ssize_t n = ::read(file.get(), text.data() + have, text.size() - have);
    text.resize(have + static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
    if (n < 0 && errno != EINTR) {
      fail<IoError>("{}: cannot read it: {}", what, text_of_system_error(errno));
    }
    if (text.size() > bytes_max) {
      fail<InvalidArgument>("{}: it has more than {} bytes, which is the most", what, bytes_max);
    }
    if (n == 0) return text;
  }
}

}  // namespace weft
