#include "kernels/cuda/dropout.h"

#include "kernels/no_cuda/refuse.h"

namespace weft::kernels::cuda {

void dropout(const DropoutMask&, DType, Elems, const void*, void*, Stream) {
  refuse_without_backend("CUDA dropout");
}

void philox_words(std::uint64_t, std::uint64_t, std::uint64_t, Elems, std::uint32_t*, Stream) {
  refuse_without_backend("CUDA philox_words");
}

}  // namespace weft::kernels::cuda
