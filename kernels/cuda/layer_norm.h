// kernels/layer_norm.h on a CUDA device: device pointers on the current device, queued on `stream`,
// no wait on the host, may be captured into a graph. Results repeat to the bit.
//
// Forward and dx read each row once: into registers up to 16 KiB, into shared memory beyond.
// dweight and dbias come from the same reading up to 4 KiB (16-byte aligned rows of whole packs),
// else from a second one; they are summed over fixed blocks of rows, then over the blocks in order.
#pragma once

#include "kernels/cuda/stream.h"
#include "kernels/layer_norm.h"

namespace weft::kernels::cuda {

void layer_norm(const LayerNorm& problem, Stream stream);
void layer_norm_backward(const LayerNormBackward& problem, Stream stream);

}  // namespace weft::kernels::cuda
