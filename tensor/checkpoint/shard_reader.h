// One file of a checkpoint, read and checked against its manifest.
#pragma once

#include <filesystem>
#include <memory>
#include <span>

#include "tensor/checkpoint/manifest.h"

namespace weft::checkpoint {

class ShardReader {
 public:
  // IoError; Corrupt where it is missing or has not its size, naming the first tensor that suffers.
  ShardReader(const std::filesystem::path& directory, const Manifest& manifest, std::size_t file);
  ~ShardReader();
  ShardReader(const ShardReader&) = delete;
  ShardReader& operator=(const ShardReader&) = delete;

  // Reads all of it: its checksum, and, where that is wrong, whose bytes have changed. With
  // `names_pieces` its header, too: entries as write_shard_file() makes them.
  void verify(bool names_pieces) const;
  void read(std::uint64_t offset, std::span<std::byte> to) const;  // IoError
  const std::filesystem::path& path() const { return path_; }

 private:
  [[noreturn]] void refuse_sum(std::uint64_t found) const;
  void check_header() const;
  std::uint64_t sum(std::uint64_t offset, std::uint64_t size) const;
  template <class Use>
  void for_each_piece(Use use) const;

  std::filesystem::path path_;
  const Manifest& manifest_;
  std::size_t index_;
  const FileEntry& entry_;
  int fd_ = -1;
};

}  // namespace weft::checkpoint
