// A long run of tokens, and random windows of it to train on.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "tensor/tensor.h"

namespace weft::data {

// Tokens in memory or in a mapped file, two bytes each where they fit, else four. A handle: copies
// and slices share the elements, which never change.
class Tokens {
 public:
  Tokens() = default;
  // Every token must lie in [0, vocab_size), else InvalidArgument.
  Tokens(std::span<const std::int32_t> tokens, std::int64_t vocab_size);
  Tokens(std::shared_ptr<const void> owner, std::span<const std::uint16_t> tokens,
         std::int64_t vocab_size);

  std::int64_t size() const { return size_; }
  // One more than the largest token there can be (not: there is).
  std::int64_t vocab_size() const { return vocab_size_; }
  std::int32_t operator[](std::int64_t i) const;
  Tokens slice(std::int64_t start, std::int64_t length) const;
  void copy(std::int64_t start, std::span<std::int32_t> to) const;

 private:
  std::shared_ptr<const void> owner_;
  const std::uint16_t* narrow_ = nullptr;  // one of the two
  const std::int32_t* wide_ = nullptr;
  std::int64_t size_ = 0;
  std::int64_t vocab_size_ = 0;
};

// llm.c's token file: 256 int32 (magic 20240520, version 1, count), then `count` uint16, all little
// endian. Memory-mapped. IoError if it cannot be read, Corrupt if it is not such a file; both name
// it.
Tokens open_token_file(const std::filesystem::path& path);
// Replaces the file at once or not at all.
void write_token_file(const std::filesystem::path& path, std::span<const std::uint16_t> tokens);

// The first (1 - fraction) for training, the rest for validation, as nanoGPT splits its texts.
struct Split {
  Tokens train;
  Tokens validation;
};
Split split(const Tokens& tokens, double validation_fraction = 0.1);

struct Batch {
  Tensor inputs;
  Tensor targets;
};

// Windows at random places, with replacement, as nanoGPT's get_batch. Sample i of an iteration
// depends only on (seed, iteration, i): N ranks with `batch` rows each see just what one rank with
// N x batch rows would see.
class TokenDataset {
 public:
  // InvalidArgument, naming `source`, where there is no window of block_size tokens and a next one.
  TokenDataset(Tokens tokens, std::int64_t block_size, std::uint64_t seed,
               std::string source = "the data");
  // inputs (batch, block_size) and targets, one token on; i32.
  Batch batch(std::int64_t batch_size, std::int64_t iteration, int rank = 0) const;
  // Where that sample starts.
  std::int64_t start_of(std::int64_t iteration, std::int64_t sample) const;
  const Tokens& tokens() const { return tokens_; }
  std::int64_t block_size() const { return block_size_; }

 private:
  Tokens tokens_;
  std::int64_t block_size_;
  std::uint64_t seed_;
};

}  // namespace weft::data
