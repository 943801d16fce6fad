#include "kernels/cuda/runtime.h"

#include "kernels/base/error.h"
#include "kernels/no_cuda/refuse.h"

namespace weft::kernels::cuda {

int device_count() { return 0; }

std::string reason_for_none() { return kNoBackend; }

DeviceInfo device_info(int index) {
  fail<InvalidArgument>("CUDA device {}: there is none, because {}.", index, kNoBackend);
}

void* allocate(Bytes) { refuse_without_backend("CUDA allocate"); }

void release(void*) noexcept {}

void copy_to_device(void*, const void*, Bytes) { refuse_without_backend("CUDA copy to device"); }

void copy_to_host(void*, const void*, Bytes) { refuse_without_backend("CUDA copy to host"); }

}  // namespace weft::kernels::cuda
