#include "kernels/cuda/multi_tensor.h"

#include "kernels/no_cuda/refuse.h"

namespace weft::kernels::cuda {

void scale(std::span<const FlatTensor>, double, Stream) { refuse_without_backend("CUDA scale"); }

void scale(std::span<const FlatTensor>, const double*, Stream) {
  refuse_without_backend("CUDA scale");
}

void unscale_and_check(std::span<const FlatTensor>, double, std::int32_t*, Stream) {
  refuse_without_backend("CUDA unscale_and_check");
}

void unscale_and_check(std::span<const FlatTensor>, LossScale*, Stream) {
  refuse_without_backend("CUDA unscale_and_check");
}

Bytes norm_workspace(std::span<const FlatTensor>) { refuse_without_backend("CUDA norm"); }

void squared_norm(std::span<const FlatTensor>, void*, double*, Stream) {
  refuse_without_backend("CUDA squared_norm");
}

void clip_norm(std::span<const FlatTensor>, double, void*, double*, Stream) {
  refuse_without_backend("CUDA clip_norm");
}

}  // namespace weft::kernels::cuda
