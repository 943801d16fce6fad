#include "tensor/checkpoint/shard_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include WEFT_XXHASH_HEADER  // <xxhash.h>, or the one that dispatches

#include <algorithm>
#include <cerrno>
#include <map>
#include <span>
#include <system_error>
#include <vector>

#include "kernels/base/error.h"
#include "tensor/checkpoint/safetensors.h"

namespace weft::checkpoint {
namespace {

constexpr std::size_t kChunk = std::size_t{1} << 20;

std::string reason(int error) { return std::generic_category().message(error); }

std::string text_of(const TensorEntry& tensor, const PieceEntry& piece) {
  return fmt::format("tensor '{}', elements [{}, {})", tensor.name, piece.begin.value,
                     (piece.begin + piece.count).value);
}

}  // namespace

template <class Use>
void ShardReader::for_each_piece(Use use) const {
  for (const auto& part : manifest_.parts) {
    if (part.name != entry_.part) continue;
    for (const auto& tensor : part.tensors) {
      for (const auto& piece : tensor.pieces) {
        if (piece.file == index_) use(tensor, piece);
      }
    }
  }
}

ShardReader::ShardReader(const std::filesystem::path& directory, const Manifest& manifest,
                         std::size_t file)
    : path_(directory / manifest.files[file].name),
      manifest_(manifest),
      index_(file),
      entry_(manifest.files[file]) {
  // The first in the file of those that do not end within `bytes`.
  const auto first_beyond = [&](std::uint64_t bytes) {
    std::pair<std::uint64_t, std::string> first{~std::uint64_t{0}, "its header"};
    for_each_piece([&](const TensorEntry& tensor, const PieceEntry& piece) {
      const auto end = piece.offset + bytes_of(piece.count, tensor.dtype).size();
      if (end > bytes && piece.offset < first.first) first = {piece.offset, text_of(tensor, piece)};
    });
    return first.second;
  };
  fd_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd_ < 0 && errno == ENOENT) {
    fail<Corrupt>("{}: missing. Expected {} bytes with {}, found no file", path_.string(),
                  entry_.bytes, first_beyond(0));
  }
  if (fd_ < 0) fail<IoError>("{}: cannot open it: {}", path_.string(), reason(errno));
  struct stat status {};
  if (::fstat(fd_, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(fd_);
    fail<IoError>("{}: it is no regular file", path_.string());
  }
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (size == entry_.bytes) return;
  ::close(fd_);
  if (size > entry_.bytes) {
    fail<Corrupt>(
        "{}: expected {} bytes, found {}: it is another file, or something was appended "
        "after {}",
        path_.string(), entry_.bytes, size, "its tensors");
  }
  fail<Corrupt>("{}: truncated: expected {} bytes, found {}; {} is cut", path_.string(),
                entry_.bytes, size, first_beyond(size));
}

ShardReader::~ShardReader() { ::close(fd_); }

void ShardReader::read(std::uint64_t offset, std::span<std::byte> to) const {
  while (!to.empty()) {
    const auto n = ::pread(fd_, to.data(), std::min(to.size(), std::size_t{1} << 30),
                           static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      fail<IoError>("{}: cannot read {} bytes at {}: {}", path_.string(), to.size(), offset,
                    n < 0 ? reason(errno) : "it has become shorter");
    }
    to = to.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
}

std::uint64_t ShardReader::sum(std::uint64_t offset, std::uint64_t size) const {
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(),
                                                                       &XXH3_freeState);
  XXH3_64bits_reset(state.get());
  std::vector<std::byte> chunk(std::min<std::uint64_t>(kChunk, size));
  while (size > 0) {
    const auto part = std::span(chunk).first(std::min<std::uint64_t>(chunk.size(), size));
    read(offset, part);
    XXH3_64bits_update(state.get(), part.data(), part.size());
    offset += part.size();
    size -= part.size();
  }
  return XXH3_64bits_digest(state.get());
}

void ShardReader::verify(bool names_pieces) const {
  if (!entry_.xxh3) return;  // a file that was saved alone: the manifest is of its own header
  ::posix_fadvise(fd_, 0, 0, POSIX_FADV_SEQUENTIAL);
  if (const auto found = sum(0, entry_.bytes); found != *entry_.xxh3) refuse_sum(found);
  if (names_pieces) check_header();
}

void ShardReader::refuse_sum(std::uint64_t found) const {
  const auto differ = fmt::format("expected XXH3 {}, found {}", hex(*entry_.xxh3), hex(found));
  for (const auto& other : manifest_.files) {
    if (other.xxh3 != found || other.bytes != entry_.bytes || &other == &entry_) continue;
    std::string first = "its tensors";
    for_each_piece([&](const TensorEntry& tensor, const PieceEntry& piece) {
      if (first == "its tensors") first = text_of(tensor, piece);
    });
    fail<Corrupt>("{}: swapped: {} is expected in it, and it has what belongs into {} ({})",
                  path_.string(), first, other.name, differ);
  }
  std::string culprit;
  for_each_piece([&](const TensorEntry& tensor, const PieceEntry& piece) {
    if (!culprit.empty() || !piece.xxh3) return;
    const auto now = sum(piece.offset, bytes_of(piece.count, tensor.dtype).size());
    if (now == *piece.xxh3) return;
    culprit = fmt::format("{}: expected XXH3 {}, found {}", text_of(tensor, piece),
                          hex(*piece.xxh3), hex(now));
  });
  fail<Corrupt>("{}: damaged since it was saved: {}", path_.string(),
                culprit.empty() ? "its header: " + differ : culprit);
}

// What the file says of itself is what the manifest says.
void ShardReader::check_header() const {
  const SafeTensors file(path_);
  std::map<std::string, std::pair<const TensorEntry*, const PieceEntry*>> expected;
  for_each_piece([&](const TensorEntry& tensor, const PieceEntry& piece) {
    expected[piece_name(tensor.name, tensor.shape, piece.begin, piece.count)] = {&tensor, &piece};
  });
  for (const auto& info : file.tensors()) {
    const auto found = expected.find(info.name);
    if (found == expected.end()) {
      if (info.begin == info.end) continue;
      fail<Corrupt>("{}: tensor '{}' is in it; the manifest expects it nowhere here",
                    path_.string(), info.name);
    }
    const auto [tensor, piece] = found->second;
    if (info.dtype != tensor->dtype || elements_of(info.shape) != piece->count ||
        file.data_start() + info.begin != piece->offset) {
      fail<Corrupt>("{}: tensor '{}': expected {} elements of {} at byte {}, found {} of {} at {}",
                    path_.string(), info.name, piece->count.value, safetensors_type(tensor->dtype),
                    piece->offset, elements_of(info.shape).value, info.type,
                    file.data_start() + info.begin);
    }
    expected.erase(found);
  }
  if (expected.empty()) return;
  fail<Corrupt>("{}: it lacks {}, which the manifest expects in it", path_.string(),
                text_of(*expected.begin()->second.first, *expected.begin()->second.second));
}

}  // namespace weft::checkpoint
