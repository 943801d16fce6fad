// Causal attention on the current CUDA device: the twin of kernels/attention.h, after Dao,
// "FlashAttention-2" (2023): a block a tile of queries (backward: of keys), nothing of size T x T.
//
// Device memory, queued on a stream, no wait on the host; may be captured into a CUDA graph. f16
// and bf16 with heads up to 128 wide run on tensor cores, accumulate in f32 and round the
// probabilities to 16 bits before they meet the values; the rest (f32, f64, heads up to 256 wide)
// runs in plain arithmetic. Fastest with a width of 64 or 128 and 16-byte aligned tensors; any
// other alignment works. Deterministic: every sum has one order, backward has no atomics. Dropout
// draws the words that the CPU draws. Errors: as the CPU's; Unsupported for heads wider than 256.
#pragma once

#include "kernels/attention.h"
#include "kernels/cuda/stream.h"

namespace weft::kernels::cuda {

void causal_attention(const CausalAttention& problem, Stream stream);
// Needs scratch memory of 4 bytes (f64: 8) a (head, query) while it runs: kernels/cuda/scratch.h.
void causal_attention_backward(const CausalAttention& problem, const void* dout, void* dqkv,
                               Stream stream);

}  // namespace weft::kernels::cuda
