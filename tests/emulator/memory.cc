#include "tests/emulator/memory.h"

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "tests/emulator/capture.h"
#include "tests/emulator/devices.h"
#include "tests/emulator/failure.h"
#include "tests/emulator/host_memory.h"
#include "tests/emulator/launch.h"
#include "tests/emulator/stream.h"

namespace weft::emulated {
namespace {

std::optional<int> arena_around(const void* address) {
  for (int i = 0; i < devices(); ++i) {
    if (arena_of(i).contains(address)) return i;
  }
  return std::nullopt;
}

// Guards are looked at when the process ends: a test that wrote past its memory fails even where
// nothing was freed.
void check_at_exit() {
  static const int once = std::atexit([] {
    if (guards_hold()) return;
    std::fflush(nullptr);
    std::_Exit(86);
  });
  static_cast<void>(once);
}

}  // namespace

void Ranges::add(const Range& range) {
  const std::lock_guard lock(mutex_);
  ranges_[range.data] = range;
}

std::optional<Range> Ranges::remove(const void* begin, RangeKind kind) {
  const std::lock_guard lock(mutex_);
  const auto found = ranges_.find(static_cast<const std::byte*>(begin));
  if (found == ranges_.end() || found->second.kind != kind) return std::nullopt;
  const Range range = found->second;
  ranges_.erase(found);
  return range;
}

std::optional<Range> Ranges::find(const void* address) const {
  const auto* const at = static_cast<const std::byte*>(address);
  const std::lock_guard lock(mutex_);
  auto after = ranges_.upper_bound(at);
  if (after == ranges_.begin()) return std::nullopt;
  --after;
  if (at >= after->second.data + after->second.bytes) return std::nullopt;
  return after->second;
}

bool Ranges::overlaps(const void* address, std::size_t bytes) const {
  const auto* const at = static_cast<const std::byte*>(address);
  const std::lock_guard lock(mutex_);
  for (const auto& [begin, range] : ranges_) {
    if (begin < at + bytes && at < begin + range.bytes) return true;
  }
  return false;
}

Ranges& ranges() {
  static auto* const all = new Ranges;  // until the process ends
  return *all;
}

bool device_memory_holds(const void* address, std::size_t bytes) {
  for (int i = 0; i < devices(); ++i) {
    if (arena_of(i).contains(address)) return arena_of(i).holds(address, bytes);
  }
  const auto range = ranges().find(address);
  return range && static_cast<const std::byte*>(address) + bytes <= range->data + range->bytes;
}

std::string describe(const void* address) {
  if (const auto device = arena_around(address)) {
    const auto found = arena_of(*device).find(address);
    if (!found) {
      return fmt::format("{} (freed or never allocated memory of device {})", address, *device);
    }
    return fmt::format("{} ({} bytes into {} of device {})", address,
                       static_cast<const std::byte*>(address) - found->data, found->bytes, *device);
  }
  return fmt::format(
      "{} ({})", address,
      ranges().find(address) ? "pinned or mapped memory" : "host memory that is not pinned");
}

cudaPointerAttributes attributes_of(const void* pointer) {
  cudaPointerAttributes attributes{};
  attributes.device = -1;
  void* const address = const_cast<void*>(pointer);
  for (int i = 0; i < devices(); ++i) {
    if (arena_of(i).find(pointer)) {
      attributes = {cudaMemoryTypeDevice, i, address, nullptr};
      return attributes;
    }
  }
  if (const auto range = ranges().find(pointer)) {
    attributes.device = range->device;
    attributes.devicePointer = address;
    attributes.type = range->kind == RangeKind::mapped ? cudaMemoryTypeDevice : cudaMemoryTypeHost;
    if (range->kind != RangeKind::mapped) attributes.hostPointer = address;
    return attributes;
  }
  attributes.type = cudaMemoryTypeUnregistered;
  attributes.hostPointer = address;
  return attributes;
}

bool guards_hold() {
  std::string damage;
  for (int i = 0; i < devices(); ++i) damage += arena_of(i).check_guards();
  if (damage.empty()) return true;
  remember_failure(damage);
  return false;
}

bool device_may_use(const void* pointer, int argument) {
  if (pointer == nullptr) return true;
  auto attributes = attributes_of(pointer);
  if (attributes.type == cudaMemoryTypeUnregistered) {  // one past the end is a pointer as well
    attributes = attributes_of(static_cast<const char*>(pointer) - 1);
  }
  const char* why = "which a device cannot use";
  if (attributes.type == cudaMemoryTypeHost) return true;
  if (attributes.type == cudaMemoryTypeDevice) {
    const auto range = ranges().find(pointer);
    const bool mapped = range && range->kind == RangeKind::mapped;
    if (mapped || peer_enabled(current_device(), attributes.device)) return true;
    why = "and the kernel's device has no access to that peer";
  }
  remember_failure(fmt::format("argument {} of a kernel on device {} points to {}, {}", argument,
                               current_device(), describe(pointer), why));
  say(cudaErrorIllegalAddress);
  return false;
}

}  // namespace weft::emulated

using namespace weft::emulated;

extern "C" {

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  if (const auto error = usable(); error != cudaSuccess) return say(error);
  if (pointer == nullptr) return say(cudaErrorInvalidValue);
  if (const auto error = refuse_while_capturing(); error != cudaSuccess) return say(error);
  check_at_exit();
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  *pointer = arena_of(current_device()).allocate(bytes);
  return say(*pointer == nullptr ? cudaErrorMemoryAllocation : cudaSuccess);
}

cudaError_t cudaFree(void* pointer) {
  if (pointer == nullptr) return cudaSuccess;
  const auto device = arena_around(pointer);
  if (!device) return say(cudaErrorInvalidValue);
  if (const auto error = refuse_while_capturing(); error != cudaSuccess) return say(error);
  synchronize_all(*device);
  std::string damage;
  const bool freed = arena_of(*device).release(pointer, damage);
  if (!damage.empty()) {
    remember_failure(damage);
    keep_error(cudaErrorIllegalAddress);
    return say(cudaErrorIllegalAddress);
  }
  return say(freed ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
  if (const auto error = usable(); error != cudaSuccess) return say(error);
  if (pointer == nullptr) return say(cudaErrorInvalidValue);
  if (const auto error = refuse_while_capturing(); error != cudaSuccess) return say(error);
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  const std::size_t whole = (bytes + 4095) / 4096 * 4096;
  void* const data = std::aligned_alloc(4096, whole);
  if (data == nullptr) return say(cudaErrorMemoryAllocation);
  std::memset(data, kMemoryPoison, whole);
  ranges().add(
      {static_cast<std::byte*>(data), bytes, RangeKind::pinned, current_device(), data, whole});
  *pointer = data;
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  return cudaHostAlloc(pointer, bytes, cudaHostAllocDefault);
}

cudaError_t cudaFreeHost(void* pointer) {
  if (pointer == nullptr) return cudaSuccess;
  if (const auto error = refuse_while_capturing(); error != cudaSuccess) return say(error);
  for (int i = 0; i < devices(); ++i) synchronize_all(i);
  const auto range = ranges().remove(pointer, RangeKind::pinned);
  if (!range) return say(cudaErrorInvalidValue);
  std::free(range->owned);
  return cudaSuccess;
}

cudaError_t cudaHostRegister(void* pointer, size_t bytes, unsigned) {
  if (const auto error = usable(); error != cudaSuccess) return say(error);
  if (pointer == nullptr || bytes == 0) return say(cudaErrorInvalidValue);
  if (ranges().overlaps(pointer, bytes)) return say(cudaErrorHostMemoryAlreadyRegistered);
  ranges().add({static_cast<std::byte*>(pointer), bytes, RangeKind::registered, current_device(),
                nullptr, 0});
  return cudaSuccess;
}

cudaError_t cudaHostUnregister(void* pointer) {
  const auto range = ranges().remove(pointer, RangeKind::registered);
  return say(range ? cudaSuccess : cudaErrorHostMemoryNotRegistered);
}

cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned) {
  if (attributes_of(host).type != cudaMemoryTypeHost) return say(cudaErrorInvalidValue);
  *device = host;
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  if (const auto error = usable(); error != cudaSuccess) return say(error);
  *free = arena_of(current_device()).free_bytes();
  *total = arena_of(current_device()).capacity();
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  if (devices() == 0) return say(cudaErrorNoDevice);
  *attributes = attributes_of(pointer);
  return cudaSuccess;
}

}  // extern "C"
