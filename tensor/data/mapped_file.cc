#include "tensor/data/mapped_file.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <system_error>

#include "kernels/base/error.h"
#include "kernels/base/regular_file.h"

namespace weft::data {
namespace {

[[noreturn]] void refuse(const std::filesystem::path& path, const char* what, int error) {
  fail<IoError>("{}: cannot {}: {}", path.string(), what, std::generic_category().message(error));
}

}  // namespace

std::shared_ptr<MappedFile> MappedFile::open(const std::filesystem::path& path) {
  const FileDescriptor file = open_regular_file(path.string(), path.string());
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) refuse(path, "read its size", errno);
  std::shared_ptr<MappedFile> mapped(new MappedFile);
  mapped->path_ = path;
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size == 0) return mapped;
  void* data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, file.get(), 0);
  if (data == MAP_FAILED) refuse(path, "map it", errno);
  mapped->data_ = static_cast<std::byte*>(data);
  mapped->size_ = size;
  return mapped;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

}  // namespace weft::data
