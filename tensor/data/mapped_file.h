// A whole file in memory, as the page cache has it.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>

#include "kernels/base/units.h"

namespace weft::data {

// Mapped privately: writing to the memory changes this process's copy only, never the file. The
// file must not be truncated meanwhile (our writers replace files by renaming, which leaves
// mappings whole).
class MappedFile {
 public:
  // IoError with the system's reason; a directory, a device or a pipe is refused.
  static std::shared_ptr<MappedFile> open(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  MappedFile() = default;
  std::filesystem::path path_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace weft::data
