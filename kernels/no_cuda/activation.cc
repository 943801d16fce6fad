#include "kernels/cuda/activation.h"

#include "kernels/no_cuda/refuse.h"

namespace weft::kernels::cuda {

void gelu(GeluKind, DType, Elems, const void*, void*, Stream) {
  refuse_without_backend("CUDA gelu");
}

void gelu_backward(GeluKind, DType, Elems, const void*, const void*, void*, Stream) {
  refuse_without_backend("CUDA gelu_backward");
}

void relu(DType, Elems, const void*, void*, Stream) { refuse_without_backend("CUDA relu"); }

void relu_backward(DType, Elems, const void*, const void*, void*, Stream) {
  refuse_without_backend("CUDA relu_backward");
}

void bias_activation_backward(const BiasActivationBackward&, Stream) {
  refuse_without_backend("CUDA bias_activation_backward");
}

}  // namespace weft::kernels::cuda
