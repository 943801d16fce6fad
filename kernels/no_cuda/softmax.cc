#include "kernels/cuda/softmax.h"

#include "kernels/no_cuda/refuse.h"

namespace weft::kernels::cuda {

void softmax(SoftmaxKind, DType, std::int64_t, std::int64_t, const void*, void*, Stream) {
  refuse_without_backend("CUDA softmax");
}

void softmax_backward(SoftmaxKind, DType, std::int64_t, std::int64_t, const void*, const void*,
                      void*, Stream) {
  refuse_without_backend("CUDA softmax_backward");
}

}  // namespace weft::kernels::cuda
