#include <bit>
#include <cstring>

#include "tensor/checkpoint/atomic_file.h"
#include "tensor/data/mapped_file.h"
#include "tensor/data/tokens.h"

namespace weft::data {
namespace {

// llm.c, dev/data/data_common.py.
constexpr std::int32_t kMagic = 20240520;
constexpr std::int32_t kVersion = 1;
constexpr std::size_t kHeaderWords = 256;
constexpr std::size_t kHeaderBytes = kHeaderWords * sizeof(std::int32_t);
static_assert(std::endian::native == std::endian::little, "token files are mapped as they are");

}  // namespace

Tokens open_token_file(const std::filesystem::path& path) {
  auto file = MappedFile::open(path);
  const auto bytes = file->bytes();
  if (bytes.size() < kHeaderBytes) {
    fail<Corrupt>("{}: {} bytes are too few for a token file's header of {}", path.string(),
                  bytes.size(), kHeaderBytes);
  }
  std::int32_t header[kHeaderWords];
  std::memcpy(header, bytes.data(), kHeaderBytes);
  if (header[0] != kMagic) {
    fail<Corrupt>(
        "{}: expected the magic {} of llm.c's token files, found {}. Text needs --tokenizer char "
        "or byte",
        path.string(), kMagic, header[0]);
  }
  if (header[1] != kVersion) {
    fail<Corrupt>("{}: expected version {} (uint16 tokens), found {}", path.string(), kVersion,
                  header[1]);
  }
  const auto count = header[2];
  const auto body = bytes.subspan(kHeaderBytes);
  if (count < 0 || body.size() != static_cast<std::size_t>(count) * sizeof(std::uint16_t)) {
    fail<Corrupt>("{}: its header says {} tokens, but {} bytes follow it (expected {})",
                  path.string(), count, body.size(), std::int64_t{count} * 2);
  }
  const std::span<const std::uint16_t> tokens(reinterpret_cast<const std::uint16_t*>(body.data()),
                                              static_cast<std::size_t>(count));
  return Tokens(std::move(file), tokens, 1 << 16);
}

void write_token_file(const std::filesystem::path& path, std::span<const std::uint16_t> tokens) {
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
