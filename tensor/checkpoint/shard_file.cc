#include "tensor/checkpoint/shard_file.h"

#include WEFT_XXHASH_HEADER  // <xxhash.h>, or the one that dispatches
#include <nlohmann/json.hpp>

#include <algorithm>
#include <numeric>
#include <span>

#include "tensor/checkpoint/manifest.h"

namespace weft::checkpoint {
namespace {

constexpr std::size_t kChunk = std::size_t{1} << 20;  // hashed, then written while still in cache

}  // namespace

struct TensorFileWriter::Hash {
  Hash() : state(XXH3_createState()) { XXH3_64bits_reset(state); }
  ~Hash() { XXH3_freeState(state); }
  Hash(const Hash&) = delete;
  Hash& operator=(const Hash&) = delete;
  void update(std::span<const std::byte> bytes) {
    XXH3_64bits_update(state, bytes.data(), bytes.size());
  }
  std::uint64_t digest() const { return XXH3_64bits_digest(state); }

  XXH3_state_t* state;
};

TensorFileWriter::TensorFileWriter(const std::filesystem::path& path,
                                   const std::vector<EntryInfo>& entries, const Metadata& metadata)
    : file_(path), hash_(std::make_unique<Hash>()) {
  const auto header = make_header(entries, metadata);
  write(std::as_bytes(std::span(header)), nullptr);
}

TensorFileWriter::~TensorFileWriter() = default;

void TensorFileWriter::write(std::span<const std::byte> bytes, Hash* own) {
  while (!bytes.empty()) {
    const auto chunk = bytes.first(std::min(bytes.size(), kChunk));
    hash_->update(chunk);
    if (own != nullptr) own->update(chunk);
    file_.write(chunk);
    bytes_ += chunk.size();
    bytes = bytes.subspan(chunk.size());
  }
}

std::uint64_t TensorFileWriter::append(std::span<const std::byte> bytes) {
  Hash own;
  write(bytes, &own);
  return own.digest();
}

std::uint64_t TensorFileWriter::commit() {
  file_.commit();
  return hash_->digest();
}

WrittenFile write_shard_file(const std::filesystem::path& path,
                             const std::vector<ShardPiece>& pieces, Metadata metadata) {
  std::vector<EntryInfo> entries;
  auto shards = nlohmann::json::object();
  for (const auto& piece : pieces) {
    const auto whole = piece.count == elements_of(piece.shape);
    entries.push_back({piece_name(piece.name, piece.shape, piece.begin, piece.count), piece.dtype,
                       whole ? piece.shape : Shape{piece.count.value}});
    if (whole) continue;
    shards[entries.back().name] = {{"name", piece.name},
                                   {"shape", piece.shape},
                                   {"begin", piece.begin.value},
                                   {"end", (piece.begin + piece.count).value}};
  }
  std::vector<std::size_t> order(pieces.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return serializes_before(entries[a], entries[b]);
  });
  std::vector<EntryInfo> ordered;
  for (const auto i : order) ordered.push_back(entries[i]);
  try {
    metadata["weft.shards"] = shards.dump();
  } catch (const nlohmann::json::exception& error) {
    fail<InvalidArgument>("{}: a tensor's name is not UTF-8: {}", path.string(), error.what());
  }
  TensorFileWriter writer(path, ordered, metadata);
  WrittenFile written;
  written.pieces.resize(pieces.size());
  for (const auto i : order) {
    const auto& piece = pieces[i];
    written.pieces[i].offset = writer.bytes();
    const auto data = piece.data();
    const auto size = bytes_of(piece.count, piece.dtype).size();
    if (Elems(data.numel()) != piece.count || data.dtype() != piece.dtype) {
      fail<InvalidArgument>("checkpoint: '{}': {} elements of {} were to be written, {} of {} came",
                            entries[i].name, piece.count.value, name_of(piece.dtype), data.numel(),
                            name_of(data.dtype()));
    }
    written.pieces[i].xxh3 = writer.append({static_cast<const std::byte*>(data.data()), size});
  }
  written.bytes = writer.bytes();
  written.xxh3 = writer.commit();
  return written;
}

}  // namespace weft::checkpoint
