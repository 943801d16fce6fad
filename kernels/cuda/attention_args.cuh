// What attention's kernels are told, and where a block finds its work.
#pragma once

#include <cstdint>

#include "hardware.cuh"
#include "kernels/cuda/stream.h"
#include "kernels/philox.h"

namespace weft::kernels::cuda {

// kernels/attention.h's problem, prepared by attention.cu.
struct AttentionArgs {
  const void* qkv = nullptr;
  void* out = nullptr;          // backward reads it
  void* log_sum_exp = nullptr;  // (batch * heads, length)
  const void* dout = nullptr;
  void* dqkv = nullptr;
  void* dot = nullptr;         // backward's sums of dout * out, like log_sum_exp
  std::int64_t all_heads = 0;  // batch * heads
  int length = 0, heads = 0, width = 0;
  bool aligned = false;  // every row of every tensor begins at a multiple of 16 bytes
  double scale = 1.0;    // of scores
  // Dropout: kept where the word is at or above the threshold, times `kept`. Query q of head h
  // takes words from block first_block (+ *advance / 4) + (h * length + q) * row_blocks on.
  bool dropout = false;
  std::uint32_t threshold = 0;
  double kept = 1.0;
  std::uint64_t seed = 0, stream = 0, first_block = 0, row_blocks = 0;
  const std::uint64_t* advance = nullptr;

  template <class Visit>
  void pointers(const Visit& visit) const {
    visit(qkv);
    visit(out);
    visit(log_sum_exp);
    visit(dout);
    visit(dqkv);
    visit(dot);
    visit(advance);
  }
};

// One block's unit of work: a tile of rows of one head. Blocks count through the tiles of a head
// first, so that those at work together share keys and values in L2.
struct AttentionUnit {
  std::int64_t head = 0;
  int tile = 0;

  WEFT_DEVICE AttentionUnit(int tiles, bool last_first)
      : head(blockIdx.x / static_cast<unsigned>(tiles)),
        tile(static_cast<int>(blockIdx.x % static_cast<unsigned>(tiles))) {
    if (last_first) tile = tiles - 1 - tile;
  }
};

// The rows of one head inside a packed tensor: `part` of `parts` projections a token.
template <class T>
struct AttentionRows {
  T* data = nullptr;
  int stride = 0;

  template <class Void>
  WEFT_DEVICE AttentionRows(const AttentionArgs& args, Void* packed, std::int64_t head, int part,
                            int parts) {
    const int channels = args.heads * args.width;
    const std::int64_t image = head / args.heads, within = head % args.heads;
    stride = parts * channels;
    data = static_cast<T*>(packed) + image * args.length * stride + part * channels +
           within * args.width;
  }
  WEFT_DEVICE T* row(int r) const { return data + static_cast<std::int64_t>(r) * stride; }
};

// Dropout's words of one head.
class AttentionWords {
 public:
  WEFT_DEVICE AttentionWords(const AttentionArgs& args, std::int64_t head)
      : philox_{args.seed, args.stream},
        first_(args.first_block + static_cast<std::uint64_t>(head) *
                                      static_cast<std::uint64_t>(args.length) * args.row_blocks),
        row_blocks_(args.row_blocks),
        threshold_(args.threshold) {
    if (args.advance != nullptr) first_ += *args.advance / Philox::kWords;
  }
  // Bit i: whether key 4 * group + i of the query is kept.
  WEFT_DEVICE std::uint32_t kept(int query, int group) const {
    const Philox::Block block = philox_.block(
        first_ + static_cast<std::uint64_t>(query) * row_blocks_ + static_cast<unsigned>(group));
    std::uint32_t bits = 0;
#pragma unroll
    for (int i = 0; i < Philox::kWords; ++i) {
      bits |= (block.word[i] >= threshold_ ? 1u : 0u) << i;
    }
    return bits;
  }

 private:
  Philox philox_;
  std::uint64_t first_, row_blocks_;
  std::uint32_t threshold_;
};

WEFT_HD constexpr int attention_tiles(int length, int rows) {
  return static_cast<int>((static_cast<std::int64_t>(length) + rows - 1) / rows);
}

inline unsigned attention_blocks(const AttentionArgs& args, int rows) {
  return static_cast<unsigned>(args.all_heads * attention_tiles(args.length, rows));
}

// attention_forward.cu, attention_backward_queries.cu, attention_backward_keys.cu: tensor cores, T
// is Half or BFloat16, width <= 128. The gradient of queries also leaves `dot`, which that of keys
// reads.
template <class T>
void attention_forward(const AttentionArgs& args, Stream stream);
template <class T>
void attention_backward_queries(const AttentionArgs& args, Stream stream);
template <class T>
void attention_backward_keys(const AttentionArgs& args, Stream stream);
// attention_plain_*.cu: any type, width <= 256.
template <class T>
void attention_plain_forward(const AttentionArgs& args, Stream stream);
template <class T>
void attention_plain_backward(const AttentionArgs& args, Stream stream);

}  // namespace weft::kernels::cuda
