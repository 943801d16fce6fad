// Counter-based random numbers: Philox 4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random
// numbers: as easy as 1, 2, 3", SC 2011; multipliers and Weyl constants from its section 4 and
// table 2).
//
// The stream of (seed, stream) is an endless row of 32-bit words; the n-th is a pure function of
// (seed, stream, n): word n % 4 of block n / 4. Host and device draw the same, in any order, on any
// number of threads.
#pragma once

#include <cstdint>

#include "kernels/base/half.h"  // WEFT_HD

namespace weft::kernels {

struct Philox {
  static constexpr std::uint32_t kMultiplier0 = 0xD2511F53u;
  static constexpr std::uint32_t kMultiplier1 = 0xCD9E8D57u;
  static constexpr std::uint32_t kWeyl0 = 0x9E3779B9u;  // golden ratio
  static constexpr std::uint32_t kWeyl1 = 0xBB67AE85u;  // sqrt(3) - 1
  static constexpr int kRounds = 10;
  static constexpr int kWords = 4;  // of a block

  struct Block {
    std::uint32_t word[kWords];
  };

  std::uint64_t seed = 0;    // the key
  std::uint64_t stream = 0;  // upper half of the counter

  // The bijection itself: ten rounds over a counter of four words under a key of two.
  WEFT_HD static constexpr Block encrypt(Block counter, std::uint32_t key0, std::uint32_t key1) {
    for (int round = 0; round < kRounds; ++round) {
      const std::uint64_t product0 = std::uint64_t{kMultiplier0} * counter.word[0];
      const std::uint64_t product1 = std::uint64_t{kMultiplier1} * counter.word[2];
      counter = Block{{static_cast<std::uint32_t>(product1 >> 32) ^ counter.word[1] ^ key0,
                       static_cast<std::uint32_t>(product1),
                       static_cast<std::uint32_t>(product0 >> 32) ^ counter.word[3] ^ key1,
                       static_cast<std::uint32_t>(product0)}};
      key0 += kWeyl0;
      key1 += kWeyl1;
    }
    return counter;
  }

  // Words 4 * index .. 4 * index + 3 of the stream.
  WEFT_HD constexpr Block block(std::uint64_t index) const {
    return encrypt(
        Block{{static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32),
               static_cast<std::uint32_t>(stream), static_cast<std::uint32_t>(stream >> 32)}},
        static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32));
  }

  // The n-th word. Drawing many in a row is four times cheaper by block().
  WEFT_HD constexpr std::uint32_t at(std::uint64_t n) const {
    return block(n / kWords).word[n % kWords];
  }

  // 24 bits, [0, 1): exact in float.
  WEFT_HD static constexpr float to_float(std::uint32_t word) {
    return static_cast<float>(word >> 8) * 0x1.0p-24f;
  }
  // 53 bits of two words, [0, 1).
  WEFT_HD static constexpr double to_double(std::uint32_t high, std::uint32_t low) {
    const std::uint64_t bits = (std::uint64_t{high} << 32 | low) >> 11;
    return static_cast<double>(bits) * 0x1.0p-53;
  }
};

// Dropout with probability p of zeroing keeps an element whose word is at or above this threshold.
// p in [0, 1]; 1 keeps nothing.
WEFT_HD constexpr std::uint64_t dropout_threshold(double p) {
  return static_cast<std::uint64_t>(p * 4294967296.0);
}

}  // namespace weft::kernels
