// Files that programs write figures to at their end: looked at before hours are spent on those.
#pragma once

#include <fstream>
#include <string>

#include "kernels/base/error.h"

namespace weft::bench {

// IoError, naming the option, where the file cannot be written. Makes it where it is not there.
inline void require_writable(const char* option, const std::string& path) {
  const std::ofstream file(path, std::ios::app);
  if (!file) {
    fail<IoError>("{} {}: cannot be written; check the folder and its permissions", option, path);
  }
}

inline void write_text(const char* option, const std::string& path, const std::string& text) {
  std::ofstream file(path);
  if (!(file << text << std::flush)) {
    fail<IoError>("{} {}: cannot be written; check the path and the space left on its disk", option,
                  path);
  }
}

}  // namespace weft::bench
