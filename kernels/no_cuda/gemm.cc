#include "kernels/cuda/gemm.h"

#include "kernels/cuda/runtime.h"

#include "kernels/no_cuda/refuse.h"

namespace weft::kernels::cuda {

void gemm(const Gemm&, Epilogue, const void*, void*, Stream) {
  refuse_without_backend("CUDA gemm");
}

void gemm_batched(const Gemm&, std::int64_t, std::int64_t, std::int64_t, std::int64_t, Stream) {
  refuse_without_backend("CUDA gemm_batched");
}

void gemm_backward(const Gemm&, const GemmGradient&, Stream) {
  refuse_without_backend("CUDA gemm_backward");
}

void allow_tf32(bool) {}  // a wish, which nothing here could fulfil
bool tf32_allowed() { return false; }

std::string reason_for_no_gemm() { return reason_for_none(); }

}  // namespace weft::kernels::cuda
