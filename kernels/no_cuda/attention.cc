#include "kernels/cuda/attention.h"

#include "kernels/no_cuda/refuse.h"

namespace weft::kernels::cuda {

void causal_attention(const CausalAttention&, Stream) {
  refuse_without_backend("CUDA causal_attention");
}

void causal_attention_backward(const CausalAttention&, const void*, void*, Stream) {
  refuse_without_backend("CUDA causal_attention_backward");
}

}  // namespace weft::kernels::cuda
