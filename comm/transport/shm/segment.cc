#include "comm/transport/shm/segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "kernels/base/error.h"

namespace weft::comm::shm {

namespace {

constexpr const char* kRemedy =
    "set the transport to tcp (--transport=tcp, WEFT_TRANSPORT=tcp) if these processes cannot "
    "share memory";

Mapping map(int fd, std::size_t bytes, const std::string& what) {
  void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) {
    fail<IoError>("cannot map {} bytes of {} ({}): raise ulimit -v, or use less", bytes, what,
                  std::strerror(errno));
  }
  return {static_cast<std::byte*>(memory), [bytes](std::byte* m) { ::munmap(m, bytes); }};
}

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

std::string path_of(const Handle& handle) {
  return fmt::format("/proc/{}/fd/{}", handle.pid, handle.fd);
}

}  // namespace

Segment::Segment(const std::string& name, std::size_t bytes, bool reserve)
    : descriptor_(::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING)), bytes_(bytes) {
  if (descriptor_.get() < 0) {
    fail<IoError>(
        "cannot make shared memory: memfd_create: {}; raise ulimit -n if it says that "
        "too many files are open",
        std::strerror(errno));
  }
  // Beyond a file size limit ftruncate would not only fail, but end the process with SIGXFSZ.
  rlimit limit{};
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && bytes > limit.rlim_cur) {
    fail<IoError>(
        "cannot make {} bytes of shared memory: files may have {} at most; raise ulimit "
        "-f",
        bytes, limit.rlim_cur);
  }
  if (::ftruncate(descriptor_.get(), static_cast<off_t>(bytes)) != 0) {
    fail<IoError>(
        "cannot make {} bytes of shared memory: ftruncate: {}; use less, or raise "
        "ulimit -f",
        bytes, std::strerror(errno));
  }
  if (reserve && bytes > 0) {
    int error = 0;
    do {
      error = ::fallocate(descriptor_.get(), 0, 0, static_cast<off_t>(bytes)) == 0 ? 0 : errno;
    } while (error == EINTR);
    if (error != 0) {
      fail<IoError>(
          "cannot reserve {} bytes of shared memory ({}): the machine, or this "
          "container's memory limit, is too small for it; use less",
          bytes, std::strerror(error));
    }
  }
  // Where a mapping's pages can be cut off, touching them raises SIGBUS.
  if (::fcntl(descriptor_.get(), F_ADD_SEALS, kSeals) != 0) {
    fail<IoError>("cannot seal shared memory: {}", std::strerror(errno));
  }
  mapping_ = map(descriptor_.get(), bytes, "shared memory");
}

Handle Segment::handle() const { return {::getpid(), descriptor_.get()}; }

Mapping map_segment(const Handle& handle, std::size_t bytes) {
  const std::string path = path_of(handle);
  const FileDescriptor descriptor(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (descriptor.get() < 0) {
    fail<IoError>("cannot open the shared memory of process {} ({}: {}); {}", handle.pid, path,
                  std::strerror(errno), kRemedy);
  }
  struct stat status {};
  if (::fstat(descriptor.get(), &status) != 0 || !S_ISREG(status.st_mode) ||
      status.st_size != static_cast<off_t>(bytes) ||
      (::fcntl(descriptor.get(), F_GET_SEALS) & kSeals) != kSeals) {
    fail<IoError>("{} is not the shared memory of {} bytes that process {} promised; {}", path,
                  bytes, handle.pid, kRemedy);
  }
  return map(descriptor.get(), bytes, path);
}

bool unshare(const Mapping& mapping, std::size_t bytes) {
  void* const own =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (own == MAP_FAILED) return false;
  std::memcpy(own, mapping.get(), bytes);
  if (::mremap(own, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, mapping.get()) != MAP_FAILED) {
    return true;
  }
  const int error = errno;
  ::munmap(own, bytes);
  errno = error;
  return false;
}

bool has_ended(std::int64_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string line;
  if (!std::getline(file, line)) return true;
  const auto name_end = line.rfind(')');  // pid (name) state ...
  if (name_end == std::string::npos || name_end + 2 >= line.size()) return false;
  return line[name_end + 2] == 'Z' || line[name_end + 2] == 'X';
}

// Both ends are opened, though only one is used: a pipe that has a reader never raises SIGPIPE.
FileDescriptor open_pipe(const Handle& handle) {
  const std::string path = path_of(handle);
  FileDescriptor descriptor(::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
  struct stat status {};
  if (descriptor.get() < 0) {
    fail<IoError>("cannot open the pipe of process {} ({}: {}); {}", handle.pid, path,
                  std::strerror(errno), kRemedy);
  }
  if (::fstat(descriptor.get(), &status) != 0 || !S_ISFIFO(status.st_mode)) {
    fail<IoError>("{} is not the pipe that process {} promised; {}", path, handle.pid, kRemedy);
  }
  return descriptor;
}

}  // namespace weft::comm::shm
