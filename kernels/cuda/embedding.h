// kernels/embedding.h on a CUDA device: device pointers on the current device, queued on `stream`,
// no wait on the host, may be captured into a graph. Results repeat to the bit.
//
// An index out of range gives a row of zeros, adds nothing backward, and is thrown by
// check_faults() (kernels/cuda/faults.h). Backward adds up to kEmbeddingAloneMax gradients of one
// entry in the order of i, as the CPU does; more are added in eight runs of that order, then the
// runs in order.
#pragma once

#include "kernels/cuda/stream.h"
#include "kernels/embedding.h"

namespace weft::kernels::cuda {

inline constexpr int kEmbeddingAloneMax = 64;

// count < 2^31.
void embedding(const Embedding& problem, const void* table, void* y, Stream stream);
void embedding_backward(const Embedding& problem, const void* dy, void* dtable, Stream stream);

}  // namespace weft::kernels::cuda
