#include <glob.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>
#include <system_error>

#include "tensor/checkpoint/atomic_file.h"
#include "tensor/data/mapped_file.h"
#include "tensor/data/tokens.h"

namespace weft::data {
namespace {

namespace fs = std::filesystem;

// llm.c, dev/data/data_common.py.
constexpr std::int32_t kMagic = 20240520;
constexpr std::int32_t kWideMagic = 20240801;  // Llama 3's tokens, four bytes each
constexpr std::int32_t kVersion = 1;
constexpr std::size_t kHeaderWords = 256;
constexpr std::size_t kHeaderBytes = kHeaderWords * sizeof(std::int32_t);
static_assert(std::endian::native == std::endian::little, "token files are mapped as they are");

void sort_by_bytes(std::vector<fs::path>& paths) {
  std::sort(paths.begin(), paths.end(),
            [](const fs::path& a, const fs::path& b) { return a.native() < b.native(); });
}

std::vector<fs::path> files_in(const fs::path& directory) {
  std::vector<fs::path> found;
  std::error_code error;
  fs::directory_iterator it(directory, error);
  for (const fs::directory_iterator end; !error && it != end; it.increment(error)) {
    const auto& path = it->path();
    std::error_code unknown;
    if (path.extension() != ".bin" || path.filename().native().starts_with('.')) continue;
    if (!it->is_directory(unknown)) found.push_back(path);
  }
  if (error) fail<IoError>("{}: cannot be listed: {}", directory.string(), error.message());
  if (found.empty()) {
    fail<InvalidArgument>("{}: expected token files (*.bin) in this directory, found none",
                          directory.string());
  }
  sort_by_bytes(found);
  return found;
}

std::vector<fs::path> matches_of(const std::string& pattern) {
  struct Matches {
    ::glob_t list = {};
    ~Matches() { ::globfree(&list); }
  } matches;
  const int rc = ::glob(pattern.c_str(), GLOB_ERR, nullptr, &matches.list);
  if (rc == GLOB_NOMATCH) {
    fail<InvalidArgument>("{}: expected token files of this pattern, found none", pattern);
  }
  if (rc != 0) fail<IoError>("{}: a directory of this pattern cannot be listed", pattern);
  std::vector<fs::path> found;
  for (std::size_t i = 0; i < matches.list.gl_pathc; ++i) {
    found.emplace_back(matches.list.gl_pathv[i]);
  }
  sort_by_bytes(found);
  return found;
}

std::vector<fs::path> meant_by(const std::string& item) {
  std::error_code ignored;
  const auto status = fs::status(item, ignored);
  if (fs::is_directory(status)) return files_in(item);
  if (!fs::exists(status) && item.find_first_of("*?[") != std::string::npos) {
    return matches_of(item);
  }
  return {item};  // what is wrong with it is said when it is opened
}

}  // namespace

std::int64_t parse_token_header(std::span<const std::byte> file, const std::string& source) {
  if (file.size() < kHeaderBytes) {
    fail<Corrupt>("{}: {} bytes are too few for a token file's header of {}", source, file.size(),
                  kHeaderBytes);
  }
  std::int32_t header[kHeaderWords];
  std::memcpy(header, file.data(), kHeaderBytes);
  if (header[0] == kWideMagic) {
    fail<Corrupt>(
        "{}: expected the magic {} of llm.c's files of GPT-2 tokens, found {}: tokens of Llama 3, "
        "four bytes each, which are not read here",
        source, kMagic, header[0]);
  }
  if (header[0] != kMagic) {
    fail<Corrupt>(
        "{}: expected the magic {} of llm.c's token files, found {}. Text needs --tokenizer char "
        "or byte",
        source, kMagic, header[0]);
  }
  if (header[1] != kVersion) {
    fail<Corrupt>("{}: expected version {} (uint16 tokens), found {}", source, kVersion, header[1]);
  }
  const auto count = header[2];
  const auto body = file.size() - kHeaderBytes;
  if (count < 0 || body != static_cast<std::size_t>(count) * sizeof(std::uint16_t)) {
    fail<Corrupt>("{}: its header says {} tokens, but {} bytes follow it (expected {})", source,
                  count, body, std::int64_t{count} * 2);
  }
  return count;
}

Tokens open_token_file(const fs::path& path) {
  auto file = MappedFile::open(path);
  const auto bytes = file->bytes();
  const auto count = parse_token_header(bytes, path.string());
  const auto* first = reinterpret_cast<const std::uint16_t*>(bytes.data() + kHeaderBytes);
  return Tokens(std::move(file), {first, static_cast<std::size_t>(count)}, path.string());
}

std::vector<fs::path> find_token_files(const std::string& where) {
  std::error_code ignored;
  if (fs::exists(where, ignored)) return meant_by(where);  // a comma may be part of a name
  std::vector<fs::path> files;
  for (std::size_t begin = 0; begin <= where.size();) {
    const auto comma = std::min(where.find(',', begin), where.size());
    const auto item = where.substr(begin, comma - begin);
    if (item.empty()) {
      fail<InvalidArgument>("'{}': expected files, directories or patterns, found an empty name",
                            where);
    }
    const auto found = meant_by(item);
    files.insert(files.end(), found.begin(), found.end());
    begin = comma + 1;
  }
  return files;
}

Tokens open_token_files(const std::string& where) {
  std::vector<Tokens> parts;
  for (const auto& path : find_token_files(where)) parts.push_back(open_token_file(path));
  return parts.size() == 1 ? parts.front() : Tokens::join(parts);
}

void write_token_file(const fs::path& path, std::span<const std::uint16_t> tokens) {
  constexpr std::size_t kMost = 0x7fffffff;
  if (tokens.size() > kMost) {
    fail<InvalidArgument>("{}: a token file holds at most {} tokens, not {}; write several",
                          path.string(), kMost, tokens.size());
  }
  std::int32_t header[kHeaderWords] = {kMagic, kVersion, static_cast<std::int32_t>(tokens.size())};
  checkpoint::AtomicFile file(path);
  file.write(std::as_bytes(std::span(header)));
  file.write(std::as_bytes(tokens));
  file.commit();
}

}  // namespace weft::data
