#include "kernels/cuda/conv.h"

#include "kernels/no_cuda/refuse.h"

namespace weft::kernels::cuda {

void conv2d(const Conv2d&, const void*, const void*, const void*, void*, Stream) {
  refuse_without_backend("CUDA conv2d");
}

void conv2d_backward(const Conv2d&, const void*, const void*, const void*, void*, void*, void*,
                     Stream) {
  refuse_without_backend("CUDA conv2d_backward");
}

}  // namespace weft::kernels::cuda
