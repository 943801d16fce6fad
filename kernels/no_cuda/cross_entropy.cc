#include "kernels/cuda/cross_entropy.h"

#include "kernels/no_cuda/refuse.h"

namespace weft::kernels::cuda {

void cross_entropy(const CrossEntropy&, CrossEntropyLoss*, Stream) {
  refuse_without_backend("CUDA cross_entropy");
}

void cross_entropy_backward(const CrossEntropy&, const CrossEntropyScale&, void*, Stream) {
  refuse_without_backend("CUDA cross_entropy_backward");
}

void cross_entropy_backward(const CrossEntropy&, double, void*, Stream) {
  refuse_without_backend("CUDA cross_entropy_backward");
}

void cross_entropy_fused(const CrossEntropy&, CrossEntropyLoss*, const CrossEntropyScale&, void*,
                         Stream) {
  refuse_without_backend("CUDA cross_entropy_fused");
}

void cross_entropy_mean(const CrossEntropyLoss*, DType, void*, Stream) {
  refuse_without_backend("CUDA cross_entropy_mean");
}

}  // namespace weft::kernels::cuda
