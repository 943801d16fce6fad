#include "kernels/cuda/scratch.h"

#include "kernels/no_cuda/refuse.h"

namespace weft::kernels::cuda {

void set_scratch_source(ScratchSource) {}

Scratch::Scratch(Bytes, Stream) : stream_(nullptr) {
  refuse_without_backend("CUDA scratch memory");
}
Scratch::~Scratch() = default;

}  // namespace weft::kernels::cuda
