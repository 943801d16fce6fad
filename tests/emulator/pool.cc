// Stream-ordered memory: there at once, given back when the stream gets there.
#include <cuda_runtime_api.h>

#include <string>

#include "tests/emulator/devices.h"
#include "tests/emulator/failure.h"
#include "tests/emulator/memory.h"
#include "tests/emulator/stream.h"

using namespace weft::emulated;

struct EmulatedMemPool {
  std::uint64_t threshold = 0;
};

extern "C" {

cudaError_t cudaMallocAsync(void** pointer, size_t bytes, cudaStream_t) {
  return cudaMalloc(pointer, bytes);
}

cudaError_t cudaFreeAsync(void* pointer, cudaStream_t stream) {
  if (pointer == nullptr) return say(usable());
  const cudaPointerAttributes attributes = attributes_of(pointer);
  if (attributes.type != cudaMemoryTypeDevice) return say(cudaErrorInvalidValue);
  return enqueue(stream, [pointer, device = attributes.device] {
    std::string damage;
    arena_of(device).release(pointer, damage);
    if (damage.empty()) return;
    remember_failure(damage);
    keep_error(cudaErrorIllegalAddress);
  });
}

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int device) {
  if (device < 0 || device >= devices()) return say(cudaErrorInvalidDevice);
  static EmulatedMemPool shared;
  *pool = &shared;
  return cudaSuccess;
}

cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, cudaMemPoolAttr, void* value) {
  *static_cast<std::uint64_t*>(value) = pool->threshold;
  return cudaSuccess;
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr, void* value) {
  pool->threshold = *static_cast<std::uint64_t*>(value);
  return cudaSuccess;
}

}  // extern "C"
