// Files of a test's own: two runs at a time, of whatever build, never meet.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <string>

#include "kernels/base/error.h"

namespace weft::tests {

// A new directory, removed with this.
class ScratchDirectory {
 public:
  ScratchDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "weft-test-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) fail<IoError>("no directory {}", name);
    path_ = name;
  }
  ~ScratchDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

// A path in a directory of this process, which goes when it exits.
inline std::string scratch(const std::string& name) {
  static const ScratchDirectory directory;
  return directory / name;
}

}  // namespace weft::tests
