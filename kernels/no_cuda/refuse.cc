#include "kernels/no_cuda/refuse.h"

#include "kernels/base/error.h"

namespace weft::kernels::cuda {

void refuse_without_backend(const char* operation) {
  fail<Unsupported>("{}: {}.", operation, kNoBackend);
}

}  // namespace weft::kernels::cuda
