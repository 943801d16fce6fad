// Devices and memory.
#include "kernels/cuda/runtime.h"

#include <cuda_runtime_api.h>

#include <cstdlib>
#include <mutex>

#include "kernels/base/error.h"
#include "kernels/cuda/relaxed_capture.h"
#include "kernels/cuda/status.h"

namespace weft::kernels::cuda {
namespace {

// Streams share this many queues to the device (8 if nobody says more, 32 at most). Of two streams
// in one queue, what waits in the first can keep back the second, for which it may be waiting:
// ranks that are threads of this process (comm/cuda_communicator.h) have many. Read by the driver
// at the first call.
[[maybe_unused]] const bool has_queues = ::setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0) == 0;

// A missing driver, and one older than this runtime, are no devices rather than errors.
cudaError_t query(int* count) {
  *count = 0;
  const cudaError_t status = cudaGetDeviceCount(count);
  if (status != cudaSuccess) {
    *count = 0;
    cudaGetLastError();  // forget it
  }
  return status;
}

void require_device(int index, const char* operation) {
  const int count = device_count();
  if (index >= 0 && index < count) return;
  if (count == 0)
    fail<Unsupported>("{} {}: there is none, {}.", operation, index, reason_for_none());
  fail<InvalidArgument>(
      "{} {}: expected 0..{}, the devices that this process sees (see "
      "CUDA_VISIBLE_DEVICES).",
      operation, index, count - 1);
}

std::string to_text(const cudaUUID_t& uuid) {
  std::string text = "GPU";
  for (int i = 0; i < 16; ++i) {
    if (i == 0 || i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", static_cast<unsigned char>(uuid.bytes[i]));
  }
  return text;
}

std::string version_text(int version) {
  return version == 0 ? "" : fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

std::string device_memory_now() {
  std::size_t free = 0, total = 0;
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess || cudaMemGetInfo(&free, &total) != cudaSuccess) {
    cudaGetLastError();
    return "how much is free is not known";
  }
  return fmt::format("{} of {} bytes are free on device {}", free, total, device);
}

// Null where the driver has no memory left; other errors throw.
void* allocated(cudaError_t status, void* data, const char* operation) {
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  check(status, operation);
  return data;
}

std::mutex keeper_mutex;
MemoryKeeper kept_keeper;

MemoryKeeper memory_keeper() {
  const std::lock_guard lock(keeper_mutex);
  return kept_keeper;
}

void require_size(Bytes bytes, const char* operation) {
  if (bytes.value < 0) fail<InvalidArgument>("{} of {} bytes.", operation, bytes.value);
}

}  // namespace

int device_count() {
  int count = 0;
  query(&count);
  return count;
}

std::string reason_for_none() {
  int count = 0;
  const cudaError_t status = query(&count);
  if (count > 0) return {};
  if (status == cudaSuccess || status == cudaErrorNoDevice) {
    return "no CUDA device is visible to this process";
  }
  return std::string("no usable CUDA driver: ") + cudaGetErrorString(status);
}

DeviceInfo device_info(int index) {
  require_device(index, "CUDA device");
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
  char bus[32] = "";
  check(cudaDeviceGetPCIBusId(bus, sizeof bus, index), "cudaDeviceGetPCIBusId");
  DeviceInfo info;
  info.name = properties.name;
  info.major = properties.major;
  info.minor = properties.minor;
  info.memory = Bytes(static_cast<std::int64_t>(properties.totalGlobalMem));
  info.multiprocessors = properties.multiProcessorCount;
  info.l2_cache = Bytes(properties.l2CacheSize);
  info.shared_memory = Bytes(static_cast<std::int64_t>(properties.sharedMemPerBlockOptin));
  info.pci_bus_id = bus;
  info.uuid = to_text(properties.uuid);
  return info;
}

std::string driver_version() {
  int version = 0;
  if (cudaDriverGetVersion(&version) != cudaSuccess) cudaGetLastError();
  return version_text(version);
}

std::string runtime_version() {
  int version = 0;
  if (cudaRuntimeGetVersion(&version) != cudaSuccess) cudaGetLastError();
  return version_text(version);
}

int current_device() {
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  return device;
}

void set_device(int index) {
  require_device(index, "choosing CUDA device");
  check(cudaSetDevice(index), "cudaSetDevice");
}

DeviceGuard::DeviceGuard(int index) : previous_(current_device()) {
  if (index != previous_) set_device(index);
}

DeviceGuard::~DeviceGuard() { cudaSetDevice(previous_); }

bool can_access_peer(int device, int peer) {
  require_device(device, "CUDA device");
  require_device(peer, "CUDA device");
  if (device == peer) return true;
  int can = 0;
  check(cudaDeviceCanAccessPeer(&can, device, peer), "cudaDeviceCanAccessPeer");
  return can != 0;
}

void enable_peer_access(int device, int peer) {
  if (device == peer) return require_device(device, "CUDA device");
  if (!can_access_peer(device, peer)) {
    fail<Unsupported>(
        "CUDA device {} cannot access the memory of device {}: neither NVLink nor a "
        "PCIe path that allows it joins them. Copies between them go by the host.",
        device, peer);
  }
  const DeviceGuard guard(device);
  const cudaError_t status = cudaDeviceEnablePeerAccess(peer, 0);
  if (status == cudaErrorPeerAccessAlreadyEnabled) {
    cudaGetLastError();
    return;
  }
  check(status, "cudaDeviceEnablePeerAccess");
}

void* try_allocate(Bytes bytes) {
  require_size(bytes, "device memory");
  if (bytes.value == 0) return nullptr;
  void* data = nullptr;
  const RelaxedCapture relaxed;
  const cudaError_t status = cudaMalloc(&data, bytes.size());
  return allocated(status, data, "cudaMalloc");
}

void* allocate(Bytes bytes) {
  void* data = try_allocate(bytes);
  if (data != nullptr || bytes.value == 0) return data;
  const MemoryKeeper keeper = memory_keeper();
  if (keeper.give_back != nullptr) {
    keeper.give_back(current_device());
    data = try_allocate(bytes);
    if (data != nullptr) return data;
  }
  fail<IoError>(
      "allocating {} bytes of device memory: out of memory, {}{}. Use less, or end who holds the "
      "rest (nvidia-smi lists them).",
      bytes.value, device_memory_now(),
      keeper.describe == nullptr ? "" : ", " + keeper.describe(current_device()));
}

void set_memory_keeper(const MemoryKeeper& keeper) {
  const std::lock_guard lock(keeper_mutex);
  kept_keeper = keeper;
}

void* try_allocate_pinned(Bytes bytes) {
  require_size(bytes, "pinned memory");
  if (bytes.value == 0) return nullptr;
  void* data = nullptr;
  const RelaxedCapture relaxed;
  const cudaError_t status = cudaHostAlloc(&data, bytes.size(), cudaHostAllocPortable);
  return allocated(status, data, "cudaHostAlloc");
}

void* allocate_pinned(Bytes bytes) {
  void* const data = try_allocate_pinned(bytes);
  if (data == nullptr && bytes.value > 0) {
    fail<IoError>(
        "allocating {} bytes of page-locked host memory: the operating system grants no "
        "more. See free memory, ulimit -l and the control group's limit.",
        bytes.value);
  }
  return data;
}

void release(void* data) noexcept {
  if (data == nullptr) return;
  const RelaxedCapture relaxed;
  cudaFree(data);
}

void release_pinned(void* data) noexcept {
  if (data == nullptr) return;
  const RelaxedCapture relaxed;
  cudaFreeHost(data);
}

MemoryInfo memory_info() {
  std::size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return {Bytes(static_cast<std::int64_t>(free)), Bytes(static_cast<std::int64_t>(total))};
}

PointerInfo pointer_info(const void* data) {
  cudaPointerAttributes attributes{};
  const cudaError_t status = cudaPointerGetAttributes(&attributes, data);
  // Without a device, no memory is one's.
  if (status == cudaErrorInvalidValue || status == cudaErrorNoDevice ||
      status == cudaErrorInsufficientDriver) {
    cudaGetLastError();
    return {};
  }
  check(status, "cudaPointerGetAttributes");
  switch (attributes.type) {
    case cudaMemoryTypeDevice:
      return {MemoryKind::device, attributes.device};
    case cudaMemoryTypeHost:
      return {MemoryKind::pinned, attributes.device};
    case cudaMemoryTypeManaged:
      return {MemoryKind::managed, attributes.device};
    default:
      return {};
  }
}

int device_of(const void* data) {
  const PointerInfo info = pointer_info(data);
  return info.kind == MemoryKind::device || info.kind == MemoryKind::managed ? info.device : -1;
}

}  // namespace weft::kernels::cuda
