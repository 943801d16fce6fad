#include "kernels/cuda/scratch.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <mutex>

#include "kernels/cuda/status.h"

namespace weft::kernels::cuda {
namespace {

// What a device's pool keeps when nothing is in use, rather than giving it to the driver and asking
// again at the next step.
constexpr std::uint64_t kKeptBytes = std::uint64_t{256} << 20;

void keep_pool(int device) {
  cudaMemPool_t pool = nullptr;
  check(cudaDeviceGetDefaultMemPool(&pool, device), "cudaDeviceGetDefaultMemPool");
  std::uint64_t kept = 0;
  check(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &kept),
        "cudaMemPoolGetAttribute");
  kept = std::max(kept, kKeptBytes);
  check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &kept),
        "cudaMemPoolSetAttribute");
}

void* allocate_from_pool(Bytes bytes, Stream stream) {
  constexpr int kDevicesMax = 64;
  static std::once_flag kept[kDevicesMax];
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  std::call_once(kept[device % kDevicesMax], keep_pool, device);
  void* data = nullptr;
  check(cudaMallocAsync(&data, bytes.size(), static_cast<cudaStream_t>(stream)),
        "cudaMallocAsync of scratch memory");
  return data;
}

void release_to_pool(void* data, Bytes, Stream stream) noexcept {
  cudaFreeAsync(data, static_cast<cudaStream_t>(stream));
}

std::mutex mutex;
ScratchSource current{allocate_from_pool, release_to_pool};

}  // namespace

void set_scratch_source(ScratchSource source) {
  const std::scoped_lock lock(mutex);
  const bool given = source.allocate != nullptr && source.release != nullptr;
  current = given ? source : ScratchSource{allocate_from_pool, release_to_pool};
}

Scratch::Scratch(Bytes bytes, Stream stream) : bytes_(bytes), stream_(stream) {
  {
    const std::scoped_lock lock(mutex);
    source_ = current;
  }
  if (bytes.value > 0) data_ = source_.allocate(bytes, stream);
}

Scratch::~Scratch() {
  if (data_ != nullptr) source_.release(data_, bytes_, stream_);
}

}  // namespace weft::kernels::cuda
