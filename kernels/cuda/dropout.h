// kernels/dropout.h on a CUDA device, with the same mask and the same bits: device pointers on the
// current device, queued on `stream`, no wait on the host, may be captured into a graph (which then
// draws the same mask at every replay).
#pragma once

#include "kernels/cuda/stream.h"
#include "kernels/dropout.h"

namespace weft::kernels::cuda {

void dropout(const DropoutMask& mask, DType dtype, Elems count, const void* x, void* y,
             Stream stream);

// `out` is device memory.
void philox_words(std::uint64_t seed, std::uint64_t stream_id, std::uint64_t first, Elems count,
                  std::uint32_t* out, Stream stream);

}  // namespace weft::kernels::cuda
