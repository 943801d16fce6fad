// What the entry points of kernels/cuda take as a stream. Owners of streams are in
// kernels/cuda/runtime.h.
#pragma once

namespace weft::kernels::cuda {

// A cudaStream_t, not owned; nullptr is the default stream of the current device.
using Stream = void*;

}  // namespace weft::kernels::cuda
