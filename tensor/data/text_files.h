// Text to train on, from one file or a whole tree of them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace weft::data {

struct TextOptions {
  std::uintmax_t file_bytes_max = std::uintmax_t{8}
                                  << 20;  // in a tree, larger ones are passed over
  std::uintmax_t total_bytes_max = std::uintmax_t{1} << 30;  // beyond this: InvalidArgument
};

// The text files below `directory`, by extension (sources, documents) or well-known name (README),
// in byte order of their paths, so that every machine sees one order. Passed over: hidden names,
// symbolic links, directories of builds and packages, and files that are empty or too large.
std::vector<std::filesystem::path> find_text_files(const std::filesystem::path& directory,
                                                   const TextOptions& options = {});

// The file's bytes; or, of a directory, the texts of find_text_files() that are UTF-8 without NUL,
// one after the other, each ending in a newline. IoError if it cannot be read, InvalidArgument
// if there is nothing in it or too much; both name it.
std::string read_text(const std::filesystem::path& path, const TextOptions& options = {});

}  // namespace weft::data
