// What the names of the CUDA backend do where it is not built: kernels/no_cuda/X.cc defines those
// of kernels/cuda/X.h with this.
#pragma once

namespace weft::kernels::cuda {

inline constexpr const char* kNoBackend =
    "this build of weft has no CUDA backend: configure with -DWEFT_CUDA=ON and nvcc on PATH";

// Throws Unsupported: "<operation>: this build of weft ...".
[[noreturn]] void refuse_without_backend(const char* operation);

}  // namespace weft::kernels::cuda
