// cudaMallocAsync: the memory is there at once, and goes when the stream comes to cudaFreeAsync.
// Captured into a graph, it lives as long as the graph.
#include <cuda_runtime_api.h>

#include <array>
#include <atomic>
#include <string>

#include "tests/emulator/capture.h"
#include "tests/emulator/devices.h"
#include "tests/emulator/failure.h"
#include "tests/emulator/stream.h"

namespace weft::emulated {

struct Pool {
  int device = 0;
  std::atomic<std::uint64_t> threshold{0};
};

namespace {

void give_back(int device, void* pointer) {
  std::string damage;
  arena_of(device).release(pointer, damage);
  if (damage.empty()) return;
  remember_failure(damage);
  keep_error(cudaErrorIllegalAddress);
}

Pool* pool_of(int device) {
  static auto* const pools = new std::array<Pool, 64>;
  auto& pool = (*pools)[static_cast<std::size_t>(device % 64)];
  pool.device = device;
  return &pool;
}

}  // namespace
}  // namespace weft::emulated

using namespace weft::emulated;

extern "C" {

cudaError_t cudaMallocAsync(void** pointer, size_t bytes, cudaStream_t handle) {
  if (const auto error = usable(); error != cudaSuccess) return say(error);
  const auto stream = stream_of(handle);
  if (!stream) return say(cudaErrorInvalidResourceHandle);
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  const int device = stream->device;
  void* data = arena_of(device).allocate(bytes);
  if (data == nullptr && !is_captured(*stream)) {  // what is freed later on the stream may do
    drain(*stream);
    data = arena_of(device).allocate(bytes);
  }
  if (data == nullptr) return say(cudaErrorMemoryAllocation);
  *pointer = data;
  if (is_captured(*stream)) {
    keep_with_capture(*stream, {data, [device](void* kept) { give_back(device, kept); }});
  }
  return cudaSuccess;
}

cudaError_t cudaFreeAsync(void* pointer, cudaStream_t handle) {
  if (pointer == nullptr) return cudaSuccess;
  const auto stream = stream_of(handle);
  if (!stream) return say(cudaErrorInvalidResourceHandle);
  int device = -1;
  for (int i = 0; i < devices(); ++i) {
    if (arena_of(i).find(pointer)) device = i;
  }
  if (device < 0) return say(cudaErrorInvalidValue);
  if (is_captured(*stream)) return cudaSuccess;
  submit(stream, {WorkKind::record, [=] { give_back(device, pointer); }});
  return cudaSuccess;
}

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int device) {
  if (!valid_device(device)) return say(cudaErrorInvalidDevice);
  *pool = pool_of(device);
  return cudaSuccess;
}

cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  auto& number = *static_cast<std::uint64_t*>(value);
  const auto& arena = arena_of(pool->device);
  number = attribute == cudaMemPoolAttrReleaseThreshold ? pool->threshold.load()
                                                        : arena.capacity() - arena.free_bytes();
  return cudaSuccess;
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  if (attribute != cudaMemPoolAttrReleaseThreshold) return say(cudaErrorInvalidValue);
  pool->threshold = *static_cast<const std::uint64_t*>(value);
  return cudaSuccess;
}

cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) { return cudaSuccess; }

}  // extern "C"
