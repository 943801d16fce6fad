#include "kernels/cuda/pool.h"

#include "kernels/no_cuda/refuse.h"

namespace weft::kernels::cuda {

void max_pool2d(const Pool2d&, const void*, void*, std::int32_t*, Stream) {
  refuse_without_backend("CUDA max_pool2d");
}

void max_pool2d_backward(const Pool2d&, const void*, const std::int32_t*, void*, Stream) {
  refuse_without_backend("CUDA max_pool2d_backward");
}

void avg_pool2d(const Pool2d&, const void*, void*, Stream) {
  refuse_without_backend("CUDA avg_pool2d");
}

void avg_pool2d_backward(const Pool2d&, const void*, void*, Stream) {
  refuse_without_backend("CUDA avg_pool2d_backward");
}

}  // namespace weft::kernels::cuda
