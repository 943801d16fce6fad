// Dropout (Srivastava et al., 2014) with a mask that is a function of (seed, stream, position):
// element i takes word offset + i of the Philox stream (kernels/philox.h), so backward draws the
// mask again instead of keeping it.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/base/units.h"

namespace weft::kernels {

struct DropoutMask {
  double probability = 0.0;  // of zeroing, in [0, 1]
  std::uint64_t seed = 0, stream = 0;
  std::uint64_t offset = 0;  // word of the stream that element 0 takes
  // CUDA only, device memory: a multiple of four that is added to `offset` when the kernel runs, so
  // that a captured graph draws new numbers at each replay. nullptr: nothing is added.
  const std::uint64_t* advance = nullptr;
};

// y[i] = kept(i) ? x[i] / (1 - probability) : 0; y may be x. Backward is the same with gradients.
// Contiguous f64, f32, f16, bf16. Runs on the current thread pool; results do not depend on its
// size.
void dropout(const DropoutMask& mask, DType dtype, Elems count, const void* x, void* y);

// The words themselves: out[i] = word first + i of the stream. In the calling thread.
void philox_words(std::uint64_t seed, std::uint64_t stream, std::uint64_t first, Elems count,
                  std::uint32_t* out);

}  // namespace weft::kernels
