// One rank's file of a sharded checkpoint: an ordinary safetensors file. An entry that is a range
// of a tensor is called "NAME[BEGIN:END]", one-dimensional, and the metadata "weft.shards" tells
// which tensor and range it is, as JSON: {ENTRY: {"name":, "shape":, "begin":, "end":}}.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tensor/checkpoint/atomic_file.h"
#include "tensor/checkpoint/safetensors.h"

namespace weft::checkpoint {

// A safetensors file written piece by piece, its checksum taken on the way. As AtomicFile: there
// whole after commit(), or not at all.
class TensorFileWriter {
 public:
  // `entries` in the order of serializes_before(); their data follows in that order.
  TensorFileWriter(const std::filesystem::path& path, const std::vector<EntryInfo>& entries,
                   const Metadata& metadata);
  ~TensorFileWriter();

  // Of the next bytes of data; gives their XXH3.
  std::uint64_t append(std::span<const std::byte> bytes);
  std::uint64_t bytes() const { return bytes_; }  // so far, the header included
  // To the disk and in its place; gives the whole file's XXH3. IoError.
  std::uint64_t commit();

 private:
  struct Hash;
  void write(std::span<const std::byte> bytes, Hash* own);

  AtomicFile file_;
  std::unique_ptr<Hash> hash_;
  std::uint64_t bytes_ = 0;
};

// A range of a whole tensor, about to be written.
struct ShardPiece {
  std::string name;  // of the tensor
  DType dtype = DType::f32;
  Shape shape;  // of the whole tensor
  Elems begin, count;
  // The elements, contiguous on the host; called when it is their turn, and let go of afterwards.
  std::function<Tensor()> data;
};

struct WrittenPiece {
  std::uint64_t offset = 0;
  std::uint64_t xxh3 = 0;
};
struct WrittenFile {
  std::uint64_t bytes = 0;
  std::uint64_t xxh3 = 0;
  std::vector<WrittenPiece> pieces;  // as given
};

// `metadata` goes along. IoError names the file; it is not there then.
WrittenFile write_shard_file(const std::filesystem::path& path,
                             const std::vector<ShardPiece>& pieces, Metadata metadata);

}  // namespace weft::checkpoint
