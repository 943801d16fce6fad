#include "tensor/data/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "kernels/base/error.h"

namespace weft::data {
namespace {

struct Descriptor {
  int fd;
  explicit Descriptor(int value) : fd(value) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

[[noreturn]] void refuse(const std::filesystem::path& path, const char* what, int error) {
  fail<IoError>("{}: cannot {}: {}", path.string(), what, std::generic_category().message(error));
}

}  // namespace

std::shared_ptr<MappedFile> MappedFile::open(const std::filesystem::path& path) {
  // O_NONBLOCK: opening a pipe nobody writes to must not hang; regular files ignore it.
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.fd < 0) refuse(path, "open it for reading", errno);
  struct stat status {};
  if (::fstat(file.fd, &status) != 0) refuse(path, "read its size", errno);
  if (!S_ISREG(status.st_mode)) {
    fail<IoError>("{}: expected a regular file, found {}", path.string(),
                  S_ISDIR(status.st_mode) ? "a directory" : "a device or pipe");
  }
  std::shared_ptr<MappedFile> mapped(new MappedFile);
  mapped->path_ = path;
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size == 0) return mapped;
  void* data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, file.fd, 0);
  if (data == MAP_FAILED) refuse(path, "map it", errno);
  mapped->data_ = static_cast<std::byte*>(data);
  mapped->size_ = size;
  return mapped;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

}  // namespace weft::data
