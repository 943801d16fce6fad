#include "kernels/cuda/reduce.h"

#include "kernels/no_cuda/refuse.h"

namespace weft::kernels::cuda {

void reduce(void*, std::span<const void* const>, Elems, DType, ReduceOp, std::int64_t, Stream) {
  refuse_without_backend("CUDA reduce");
}

}  // namespace weft::kernels::cuda
