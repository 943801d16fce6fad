#include "comm/memory_space.h"

#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <mutex>
#include <string>

#include "kernels/base/error.h"

namespace weft::comm {

namespace {

std::uint64_t namespace_of(const char* path) {
  struct stat status {};
  return ::stat(path, &status) == 0 ? static_cast<std::uint64_t>(status.st_ino) : 0;
}

// Read once: later there may be no descriptor left for it, and without it this rank would seem to
// be on a host of its own.
std::string boot_id() {
  static std::mutex mutex;
  static std::string id;
  const std::lock_guard lock(mutex);
  if (id.empty()) {
    std::ifstream file("/proc/sys/kernel/random/boot_id");
    std::getline(file, id);
  }
  return id;
}

}  // namespace

std::string memory_space() {
  return fmt::format("{}/{:x}/{:x}/{}", boot_id(), namespace_of("/proc/self/ns/pid"),
                     namespace_of("/proc/self/ns/net"), ::geteuid());
}

}  // namespace weft::comm
