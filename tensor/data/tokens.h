// A long run of tokens, and windows of it to train on. Errors name the file and what was expected
// and found. Safe to read from several threads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tensor/tensor.h"

namespace weft::data {

// Tokens in memory or in mapped files, two bytes each where they fit, else four. A handle: copies
// and slices share the elements, which never change. Several files are one run after the other.
class Tokens {
 public:
  struct Piece {  // what lies in one file
    std::int64_t start = 0;
    std::int64_t length = 0;
  };

  Tokens() = default;
  // Every token must lie in [0, vocab_size), else InvalidArgument.
  Tokens(std::span<const std::int32_t> tokens, std::int64_t vocab_size);
  // Of a file, not looked at: any of two bytes. `source` is for messages.
  Tokens(std::shared_ptr<const void> owner, std::span<const std::uint16_t> tokens,
         std::string source);
  // In order. InvalidArgument where there are none.
  static Tokens join(std::span<const Tokens> parts);

  std::int64_t size() const { return size_; }
  // One more than the largest token there can be (not: there is).
  std::int64_t vocab_size() const { return vocab_size_; }
  std::int32_t operator[](std::int64_t i) const;
  Tokens slice(std::int64_t start, std::int64_t length) const;
  void copy(std::int64_t start, std::span<std::int32_t> to) const;
  // The files' parts of this, in order, places counted from its own start; empty ones left out.
  std::vector<Piece> pieces() const;

  // One more than the largest token there is (0 of none). Reads all of them.
  std::int64_t used_vocabulary() const;
  // Mismatch where a token is not in [0, vocab_size): file, place and token. Reads all of them.
  void require_vocabulary(std::int64_t vocab_size) const;

 private:
  struct Run {
    std::shared_ptr<const void> owner;
    const std::uint16_t* narrow = nullptr;  // one of the two
    const std::int32_t* wide = nullptr;
    std::int64_t start = 0;  // among all runs
    std::int64_t size = 0;
    std::string source;
    std::int32_t at(std::int64_t i) const { return narrow != nullptr ? narrow[i] : wide[i]; }
  };
  struct Span {  // of one run
    const Run* run;
    std::int64_t first, length;
  };
  const Run& run_at(std::int64_t place) const;
  std::vector<Span> spans() const;

  std::shared_ptr<const std::vector<Run>> runs_;
  std::int64_t start_ = 0;
  std::int64_t size_ = 0;
  std::int64_t vocab_size_ = 0;
};

// llm.c's token file: 256 int32 (magic 20240520, version 1, count), then `count` uint16, all little
// endian (dev/data/data_common.py). Memory-mapped. IoError if it cannot be read, Corrupt if it is
// not such a file.
Tokens open_token_file(const std::filesystem::path& path);
// Replaces the file at once or not at all.
void write_token_file(const std::filesystem::path& path, std::span<const std::uint16_t> tokens);
// What the header of a whole file says, checked against its size; Corrupt names `source`.
std::int64_t parse_token_header(std::span<const std::byte> file, const std::string& source);

// The token files that `where` means, in byte order of their paths: a file, a directory (its
// *.bin), a pattern ("shards/train_*.bin", as glob(7)), or several of those with commas between
// them, in the order given. InvalidArgument where one of them means no file, IoError where it
// cannot be looked into.
std::vector<std::filesystem::path> find_token_files(const std::string& where);
// All of them as one run. Every header is checked before this returns.
Tokens open_token_files(const std::string& where);

// The first (1 - fraction) for training, the rest for validation, as nanoGPT splits its texts.
struct Split {
  Tokens train;
  Tokens validation;
};
Split split(const Tokens& tokens, double validation_fraction = 0.1);

struct Batch {
  Tensor inputs;
  Tensor targets;
  // Of the loss: the mean over ranks of weight x (the mean over this batch) is the mean over the
  // samples of all ranks (data::Share). 1 where all ranks have equally many.
  double weight = 1.0;
};

// Windows of block_size tokens and, one on, their targets. No window crosses from one file into the
// next; what a file has too little for a window is not used.
//
// batch(): at random places, with replacement, as nanoGPT's get_batch. Sample i of an iteration
// depends only on (seed, iteration, i): N ranks with `batch` rows each see just what one rank with
// N x batch rows would see.
// gather(): windows one after the other, windows() of them, each token a target once an epoch; a
// DistributedSampler says which come when.
class TokenDataset {
 public:
  // InvalidArgument, naming `source`, where there is no window of block_size tokens and a next one.
  TokenDataset(Tokens tokens, std::int64_t block_size, std::uint64_t seed,
               std::string source = "the data");
  // inputs (batch, block_size) and targets, one token on; i32.
  Batch batch(std::int64_t batch_size, std::int64_t iteration, int rank = 0) const;
  // Where that sample starts.
  std::int64_t start_of(std::int64_t iteration, std::int64_t sample) const;
  std::int64_t windows() const { return windows_; }
  // Likewise of these windows, each in [0, windows()), else InvalidArgument; at least one.
  Batch gather(std::span<const std::int64_t> windows) const;
  const Tokens& tokens() const { return tokens_; }
  std::int64_t block_size() const { return block_size_; }

 private:
  struct Part {                // a file that has a window
    std::int64_t start = 0;    // of its first token
    std::int64_t places = 0;   // before it, of windows at any place
    std::int64_t windows = 0;  // before it, one after the other
  };
  void copy_window(std::int64_t start, std::int64_t row, const Batch& to) const;
  Batch empty_batch(std::int64_t rows) const;

  Tokens tokens_;
  std::int64_t block_size_;
  std::uint64_t seed_;
  std::vector<Part> parts_;
  std::int64_t places_ = 0;
  std::int64_t windows_ = 0;
};

}  // namespace weft::data
