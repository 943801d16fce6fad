// Eight bits a gradient: f32 values as int8 with one scale a block of 256, what an error-feedback
// hook sends (tensor/parallel/comm_hook.h).
//
// A block's scale is its largest magnitude / 127; a value becomes the nearest multiple, ties to
// even. Packed: the scales of all blocks (f32), then the multiples; the last block may be short.
// 1.016 bytes a value, a quarter of f32. Error: |x - dequantised| <= kQuantizeError * scale.
//
// A block that holds NaN or infinity gets scale NaN: all of it comes back as NaN, so that a
// gradient that blew up is seen. A block whose magnitudes are all below 2^-100 becomes zeros.
//
// The same bytes from every instruction set. Any count and alignment; buffers do not overlap. Runs
// in the calling thread; safe from any thread. Source of error feedback: Seide, Fu, Droppo, Li and
// Yu, "1-bit stochastic gradient descent and its application to data-parallel distributed training
// of speech DNNs", INTERSPEECH 2014; of blockwise scales: Dettmers, "8-bit approximations for
// parallelism in deep learning", ICLR 2016.
#pragma once

#include "kernels/base/units.h"

namespace weft::kernels {

inline constexpr std::int64_t kQuantizeBlock = 256;
// Half a multiple, and what rounding the quotient and the product to f32 adds (127 units of 2^-23).
inline constexpr double kQuantizeError = 0.5 + 0x1p-15;
// What a block below the smallest scale is off by.
inline constexpr double kQuantizeTiny = 0x1p-100;

constexpr Bytes quantized_bytes(Elems count) {
  const std::int64_t blocks = (count.value + kQuantizeBlock - 1) / kQuantizeBlock;
  return Bytes(blocks * static_cast<std::int64_t>(sizeof(float)) + count.value);
}

// Packs from[i] + residual[i] and leaves in residual[i] what the packed form lost of it (0 in
// blocks that are not finite): added to the next values, it arrives later. `residual` may be null.
void quantize_int8(void* packed, const void* from, void* residual, Elems count);

// to[i] = what was packed; `adds`: to[i] += it.
void dequantize_int8(void* to, const void* packed, Elems count, bool adds = false);

}  // namespace weft::kernels
