#include "tensor/cuda_allocator.h"

#include <fmt/format.h>

#include <array>
#include <atomic>

#include "kernels/base/error.h"
#include "kernels/cuda/runtime.h"
#include "kernels/cuda/scratch.h"

namespace weft::tensor {
namespace {

namespace cuda = kernels::cuda;

constexpr int kDevicesMax = 64;

Device cuda_device(int index) { return {DeviceType::cuda, index}; }

// Events on the streams of any device.
class EventSource : public BlockSource {
 public:
  void* record(QueueId queue) override {
    const DeviceGuard guard(cuda_device(queue.device));
    void* const event = cuda::create_event();
    cuda::record_event(event, queue.handle);
    return event;
  }
  bool is_done(void* event) override { return cuda::event_done(event); }
  void wait(void* event) override { cuda::wait_event(event); }
  void forget(void* event) noexcept override { cuda::destroy_event(event); }
};

class DeviceSource final : public EventSource {
 public:
  explicit DeviceSource(int device) : device_(device) {}
  void* allocate(Bytes bytes) override {
    const DeviceGuard guard(cuda_device(device_));
    return cuda::try_allocate(bytes);
  }
  void release(void* segment) noexcept override {
    const DeviceGuard guard(cuda_device(device_));
    cuda::release(segment);
  }
  std::string describe_exhaustion() const override {
    const DeviceGuard guard(cuda_device(device_));
    const auto memory = cuda::memory_info();
    return fmt::format("{} of {} bytes are free on cuda:{}", memory.free.value, memory.total.value,
                       device_);
  }

 private:
  int device_;
};

class PinnedSource final : public EventSource {
 public:
  void* allocate(Bytes bytes) override { return cuda::try_allocate_pinned(bytes); }
  void release(void* segment) noexcept override { cuda::release_pinned(segment); }
  std::string describe_exhaustion() const override {
    return "The operating system grants no more page-locked memory (ulimit -l, free memory)";
  }
};

void* take_scratch(Bytes bytes, cuda::Stream stream);
void give_scratch(void* data, Bytes bytes, cuda::Stream stream) noexcept;
void give_back_kept(int device);
std::string describe_kept(int device);

// Caches are never destroyed: tensors of static storage duration may outlive any other static.
BlockCache& cache_of(Device device) {
  static std::array<std::atomic<BlockCache*>, kDevicesMax> caches{};
  static std::mutex making;
  require_device(device, "device memory");
  if (device.index >= kDevicesMax) {
    fail<Unsupported>(
        "device memory on {}: at most {} devices are served; hide others with "
        "CUDA_VISIBLE_DEVICES",
        to_string(device), kDevicesMax);
  }
  auto& slot = caches[static_cast<std::size_t>(device.index)];
  if (auto* cache = slot.load(std::memory_order_acquire)) return *cache;
  const std::lock_guard lock(making);
  if (auto* cache = slot.load(std::memory_order_acquire)) return *cache;
  cuda::set_scratch_source({take_scratch, give_scratch});
  cuda::set_memory_keeper({give_back_kept, describe_kept});
  auto* const made = new BlockCache(std::make_unique<DeviceSource>(device.index),
                                    fmt::format("a tensor on {}", to_string(device)));
  slot.store(made, std::memory_order_release);
  return *made;
}

BlockCache& pinned_cache() {
  static auto* const cache =
      new BlockCache(std::make_unique<PinnedSource>(), "a tensor in pinned host memory");
  return *cache;
}

thread_local const MemoryPool* current_pool = nullptr;

PoolId pool_for(Device device) {
  return current_pool != nullptr && current_pool->device() == device ? current_pool->id()
                                                                     : kSharedPool;
}

// What kernels need between their passes comes from the same cache.
void* take_scratch(Bytes bytes, cuda::Stream stream) {
  const auto device = cuda_device(cuda::current_device());
  return cache_of(device).allocate(bytes, {device.index, stream}, pool_for(device));
}

void give_scratch(void* data, Bytes /*bytes*/, cuda::Stream /*stream*/) noexcept {
  cache_of(cuda_device(cuda::current_device())).free(static_cast<std::byte*>(data));
}

// For who allocates past this cache: what it does not use goes back first.
void give_back_kept(int device) { cache_of(cuda_device(device)).trim(); }

std::string describe_kept(int device) {
  const auto stats = cache_of(cuda_device(device)).stats();
  return fmt::format("tensors of this process hold {} bytes, {} of them in use", stats.held.value,
                     stats.in_use.value);
}

}  // namespace

std::byte* allocate_cuda_memory(Bytes bytes, Device device) {
  auto& cache = cache_of(device);
  return cache.allocate(bytes, Stream::current(device).id(), pool_for(device));
}

void free_cuda_memory(std::byte* block, Device device) noexcept { cache_of(device).free(block); }

void record_cuda_stream(const std::byte* block, Device device, const Stream& stream) {
  cache_of(device).record_stream(block, stream.id());
}

BlockStats cuda_memory_stats(Device device) { return cache_of(device).stats(); }
void reset_cuda_memory_peak(Device device) { cache_of(device).reset_peak(); }
void trim_cuda_memory(Device device) { cache_of(device).trim(); }
void set_cuda_memory_limit(Device device, std::optional<Bytes> limit) {
  cache_of(device).set_limit(limit);
}

std::byte* allocate_pinned_memory(Bytes bytes) {
  require_device(cuda_device(0), "pinned host memory");
  return pinned_cache().allocate(bytes, {});
}

void free_pinned_memory(std::byte* block) noexcept { pinned_cache().free(block); }

void record_pinned_stream(const std::byte* block, const Stream& stream) {
  pinned_cache().record_stream(block, stream.id());
}

BlockStats pinned_memory_stats() { return pinned_cache().stats(); }
void trim_pinned_memory() { pinned_cache().trim(); }

MemoryPool::MemoryPool(Device device) : device_(device), id_(cache_of(device).make_pool()) {}
MemoryPool::~MemoryPool() { cache_of(device_).release_pool(id_); }

MemoryPool::Scope::Scope(const MemoryPool& pool) : previous_(std::exchange(current_pool, &pool)) {}
MemoryPool::Scope::~Scope() { current_pool = previous_; }

CaptureScope::CaptureScope(Device device) : device_(device) {
  cache_of(device).defer_events(true);
  pinned_cache().defer_events(true);
}

CaptureScope::~CaptureScope() {
  pinned_cache().defer_events(false);
  cache_of(device_).defer_events(false);
}

}  // namespace weft::tensor
