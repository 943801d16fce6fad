#include "tests/emulator/launch.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>

#include "tests/emulator/block.h"
#include "tests/emulator/devices.h"
#include "tests/emulator/failure.h"
#include "tests/emulator/stream.h"

namespace weft::emulated {
namespace {

// How much dynamic shared memory each kernel was allowed (cudaFuncSetAttribute).
class Allowed {
 public:
  void set(const void* kernel, std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    bytes_[kernel] = bytes;
  }
  std::size_t of(const void* kernel) {
    const std::lock_guard lock(mutex_);
    const auto found = bytes_.find(kernel);
    return found == bytes_.end() ? kSharedBytes : std::max(found->second, kSharedBytes);
  }

 private:
  std::mutex mutex_;
  std::map<const void*, std::size_t> bytes_;
};
Allowed& allowed() {
  static auto* const kept = new Allowed;
  return *kept;
}

int blocks_a_multiprocessor(int threads, std::size_t shared_bytes) {
  const int by_threads = 2048 / std::max(threads, 1);
  const auto by_shared = static_cast<int>((kSharedBytesOptIn + 1024) / (shared_bytes + 1024));
  return std::min({by_threads, by_shared, 32});
}

cudaError_t check_shape(const Launch& launch) {
  const auto& grid = launch.grid;
  const auto& block = launch.block;
  const std::uint64_t threads = static_cast<std::uint64_t>(block.x) * block.y * block.z;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 ||
      grid.z > 65535 || threads == 0 || threads > kThreadsMax || block.z > 64) {
    return cudaErrorInvalidConfiguration;
  }
  if (launch.shared_bytes > allowed().of(launch.kernel)) return cudaErrorInvalidValue;
  const std::uint64_t blocks = static_cast<std::uint64_t>(grid.x) * grid.y * grid.z;
  if (launch.cooperative && blocks > static_cast<std::uint64_t>(kMultiprocessors) *
                                         static_cast<std::uint64_t>(blocks_a_multiprocessor(
                                             static_cast<int>(threads), launch.shared_bytes))) {
    return cudaErrorCooperativeLaunchTooLarge;
  }
  return cudaSuccess;
}

}  // namespace

cudaError_t queue_launch(Launch launch, cudaStream_t stream) {
  if (const auto error = usable(); error != cudaSuccess) return say(error);
  if (const auto error = check_shape(launch); error != cudaSuccess) return say(error);
  const auto target = stream_of(stream);
  if (!target || target->device != current_device()) return say(cudaErrorInvalidResourceHandle);
  return enqueue(stream, {WorkKind::kernel, [launch = std::move(launch)] {
                            if (!run_launch(launch)) keep_error(cudaErrorLaunchFailure);
                          }});
}

}  // namespace weft::emulated

using namespace weft::emulated;

extern "C" {

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
      static_cast<std::size_t>(value) > kSharedBytesOptIn) {
    return say(cudaErrorInvalidValue);
  }
  allowed().set(kernel, static_cast<std::size_t>(value));
  return cudaSuccess;
}

cudaError_t cudaFuncGetName(const char** name, const void* kernel) {
  if (kernel == nullptr) return say(cudaErrorInvalidDeviceFunction);
  *name = "an emulated kernel";
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int threads,
                                                          size_t shared_bytes) {
  if (threads <= 0 || threads > kThreadsMax) return say(cudaErrorInvalidValue);
  *blocks = blocks_a_multiprocessor(threads, shared_bytes);
  return cudaSuccess;
}

}  // extern "C"
