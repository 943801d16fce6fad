#include "kernels/cuda/optimizer.h"

#include "kernels/no_cuda/refuse.h"

namespace weft::kernels::cuda {

void adam(std::span<const AdamTensor>, const AdamParams&, Stream) {
  refuse_without_backend("CUDA adam");
}

void adam(std::span<const AdamTensor>, const AdamParams&, const StepOnDevice&, Stream) {
  refuse_without_backend("CUDA adam");
}

void sgd(std::span<const SgdTensor>, const SgdParams&, Stream) {
  refuse_without_backend("CUDA sgd");
}

void sgd(std::span<const SgdTensor>, const SgdParams&, const StepOnDevice&, Stream) {
  refuse_without_backend("CUDA sgd");
}

void advance_step(std::int64_t*, const std::int32_t*, Stream) {
  refuse_without_backend("CUDA advance_step");
}

}  // namespace weft::kernels::cuda
