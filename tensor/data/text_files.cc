#include "tensor/data/text_files.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <system_error>

#include "kernels/base/error.h"
#include "tensor/data/mapped_file.h"
#include "tensor/data/utf8.h"

namespace weft::data {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 42> kExtensions = {
    ".txt", ".md",    ".rst", ".adoc",  ".org", ".tex",  ".h",   ".hh",   ".hpp",  ".c",  ".cc",
    ".cpp", ".cxx",   ".cu",  ".cuh",   ".inc", ".py",   ".rs",  ".go",   ".js",   ".ts", ".jsx",
    ".tsx", ".java",  ".kt",  ".scala", ".rb",  ".pl",   ".lua", ".hs",   ".ml",   ".el", ".lisp",
    ".jl",  ".swift", ".sh",  ".sql",   ".css", ".html", ".yml", ".toml", ".cmake"};
constexpr std::array<std::string_view, 7> kNames = {"README", "LICENSE", "COPYING", "AUTHORS",
                                                    "NEWS",   "CHANGES", "Makefile"};
// What tools put there, not people.
constexpr std::array<std::string_view, 9> kGenerated = {
    "build", "out", "target", "dist", "node_modules", "__pycache__", "CMakeFiles", "venv", "_deps"};

template <std::size_t N>
bool among(const std::array<std::string_view, N>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool is_generated(const fs::path& directory) {
  const auto name = directory.filename().string();
  std::error_code ignored;
  return among(kGenerated, name) || name.starts_with("build-") ||
         name.starts_with("cmake-build-") || fs::exists(directory / "CMakeCache.txt", ignored);
}

bool is_text_name(const fs::path& file) {
  return among(kExtensions, file.extension().string()) || among(kNames, file.filename().string());
}

// Its text, or nothing where it is binary or changed meanwhile.
std::string text_of(const fs::path& file) {
  const auto mapped = MappedFile::open(file);
  const auto bytes = mapped->bytes();
  std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const bool is_binary = text.find('\0') != std::string::npos || first_invalid_utf8(text);
  return is_binary ? std::string() : text;
}

[[noreturn]] void too_much(const fs::path& path, const TextOptions& options) {
  fail<InvalidArgument>(
      "{}: more than {} MiB of text. Choose a smaller part, or prepare a token file and use "
      "--tokenizer bin",
      path.string(), options.total_bytes_max >> 20);
}

}  // namespace

std::vector<fs::path> find_text_files(const fs::path& directory, const TextOptions& options) {
  std::vector<fs::path> files;
  std::error_code error;
  fs::recursive_directory_iterator it(directory, fs::directory_options::skip_permission_denied,
                                      error);
  for (const fs::recursive_directory_iterator end; !error && it != end; it.increment(error)) {
    const auto& path = it->path();
    std::error_code unreadable;
    const auto status = it->symlink_status(unreadable);
    const bool is_hidden = path.filename().string().starts_with('.');
    if (fs::is_directory(status)) {
      if (is_hidden || is_generated(path)) it.disable_recursion_pending();
    } else if (fs::is_regular_file(status) && !is_hidden && is_text_name(path)) {
      const auto size = it->file_size(unreadable);
      if (!unreadable && size > 0 && size <= options.file_bytes_max) files.push_back(path);
    }
  }
  if (error) fail<IoError>("{}: cannot be listed: {}", directory.string(), error.message());
  std::sort(files.begin(), files.end(), [](const fs::path& a, const fs::path& b) {
    return a.generic_string() < b.generic_string();
  });
  return files;
}

std::string read_text(const fs::path& path, const TextOptions& options) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) {
    const auto file = MappedFile::open(path);
    const auto bytes = file->bytes();
    if (bytes.empty()) fail<InvalidArgument>("{}: the file is empty", path.string());
    if (bytes.size() > options.total_bytes_max) too_much(path, options);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  std::string all;
  for (const auto& file : find_text_files(path, options)) {
    const auto text = text_of(file);
    if (all.size() + text.size() > options.total_bytes_max) too_much(path, options);
    all += text;
    if (!text.empty() && text.back() != '\n') all += '\n';
  }
  if (all.empty()) {
    fail<InvalidArgument>(
        "{}: there is no text in this directory (looked for sources and documents by extension, "
        "hidden and build directories aside)",
        path.string());
  }
  return all;
}

}  // namespace weft::data
