// Multi-head causal self-attention on packed projections, blocked after Dao et al.,
// "FlashAttention" (2022): tiles of queries x keys with a running softmax, nothing of size T x T,
// tiles above the diagonal skipped. Forward keeps one number a (head, query); backward recomputes
// the probabilities tile by tile.
//
// qkv (batch, length, 3 * heads * width): for each token its queries, keys and values, each heads x
// width; scores are scaled by 1 / sqrt(width). f64, f32, f16, bf16 (halves compute in f32 and round
// once). Runs on the current thread pool; results do not depend on its size. Scratch a thread: two
// tiles, and one head's matrices, O(length * width).
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/dropout.h"

namespace weft::kernels {

struct CausalAttention {
  DType dtype = DType::f32;
  std::int64_t batch = 0, length = 0, heads = 0, width = 0;
  const void* qkv = nullptr;    // (batch, length, 3 * heads * width)
  void* out = nullptr;          // (batch, length, heads * width): forward writes, backward reads
  void* log_sum_exp = nullptr;  // (batch, heads, length), compute_type: likewise
  DropoutMask dropout;          // of probabilities; takes attention_dropout_words() of the stream
};

// Words of the dropout stream that one call uses, its start rounded up to a block included.
std::uint64_t attention_dropout_words(std::int64_t batch, std::int64_t heads, std::int64_t length);

void causal_attention(const CausalAttention& problem);
// dout as out, dqkv as qkv; writes dqkv, every element once it is complete.
void causal_attention_backward(const CausalAttention& problem, const void* dout, void* dqkv);

}  // namespace weft::kernels
