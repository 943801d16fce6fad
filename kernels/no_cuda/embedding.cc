#include "kernels/cuda/embedding.h"

#include "kernels/no_cuda/refuse.h"

namespace weft::kernels::cuda {

void embedding(const Embedding&, const void*, void*, Stream) {
  refuse_without_backend("CUDA embedding");
}

void embedding_backward(const Embedding&, const void*, void*, Stream) {
  refuse_without_backend("CUDA embedding_backward");
}

}  // namespace weft::kernels::cuda
