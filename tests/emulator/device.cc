#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstring>
#include <string>

#include "tests/emulator/devices.h"
#include "tests/emulator/failure.h"
#include "tests/emulator/stream.h"

namespace weft::emulated {
namespace {

constinit thread_local int device_now = 0;
constinit thread_local cudaError_t last_error = cudaSuccess;
std::atomic<cudaError_t> kept_error{cudaSuccess};

}  // namespace

cudaError_t say(cudaError_t error) {
  if (error != cudaSuccess && error != cudaErrorNotReady) last_error = error;
  return error;
}

void keep_error(cudaError_t error) { kept_error = error; }
cudaError_t kept() { return kept_error; }
void forget_kept_error() {
  kept_error = cudaSuccess;
  last_error = cudaSuccess;
}

int devices() {
  static const int count = static_cast<int>(setting("WEFT_EMULATED_DEVICES", 2, 0));
  return count;
}

int current_device() { return device_now; }

Arena& arena_of(int device) {
  static auto* const all = [] {
    const auto bytes = static_cast<std::size_t>(setting("WEFT_EMULATED_MEMORY", 1ll << 30, 1));
    auto* const made = new std::vector<std::unique_ptr<Arena>>;  // until the process ends
    for (int i = 0; i < devices(); ++i) made->push_back(std::make_unique<Arena>(i, bytes));
    return made;
  }();
  return *(*all)[static_cast<std::size_t>(device)];
}

bool valid_device(int device) { return device >= 0 && device < devices(); }

cudaError_t usable() {
  if (devices() == 0) return cudaErrorNoDevice;
  if (in_host_function()) return cudaErrorNotPermitted;
  return kept_error;
}

}  // namespace weft::emulated

using namespace weft::emulated;

extern "C" {

cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error != cudaSuccess ? error : kept_error.load();
}
cudaError_t cudaPeekAtLastError() {
  return last_error != cudaSuccess ? last_error : kept_error.load();
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = devices();
  return say(*count == 0 ? cudaErrorNoDevice : cudaSuccess);
}
cudaError_t cudaGetDevice(int* device) {
  if (devices() == 0) return say(cudaErrorNoDevice);
  *device = device_now;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (devices() == 0) return say(cudaErrorNoDevice);
  if (!valid_device(device)) return say(cudaErrorInvalidDevice);
  device_now = device;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (!valid_device(device)) return say(cudaErrorInvalidDevice);
  *properties = {};
  std::snprintf(properties->name, sizeof properties->name, "Emulated GPU %d", device);
  std::memcpy(properties->uuid.bytes, "weft emulated", 13);
  properties->uuid.bytes[15] = static_cast<char>(device);
  properties->totalGlobalMem = arena_of(device).capacity();
  properties->sharedMemPerBlock = kSharedBytes;
  properties->sharedMemPerBlockOptin = kSharedBytesOptIn;
  properties->sharedMemPerMultiprocessor = kSharedBytesOptIn + 1024;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = kThreadsMax;
  properties->major = 9;
  properties->minor = 0;
  properties->multiProcessorCount = kMultiprocessors;
  properties->maxThreadsPerMultiProcessor = 2048;
  properties->l2CacheSize = 1 << 20;
  properties->pciBusID = device + 1;
  properties->cooperativeLaunch = 1;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp properties;
  if (const auto error = cudaGetDeviceProperties(&properties, device); error != cudaSuccess) {
    return error;
  }
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = properties.maxThreadsPerBlock;
      return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
      *value = properties.multiProcessorCount;
      return cudaSuccess;
    case cudaDevAttrL2CacheSize:
      *value = properties.l2CacheSize;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = properties.major;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = properties.minor;
      return cudaSuccess;
    case cudaDevAttrCooperativeLaunch:
      *value = properties.cooperativeLaunch;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(properties.sharedMemPerBlockOptin);
      return cudaSuccess;
  }
  return say(cudaErrorInvalidValue);
}

cudaError_t cudaDeviceGetPCIBusId(char* id, int length, int device) {
  if (!valid_device(device)) return say(cudaErrorInvalidDevice);
  std::snprintf(id, static_cast<std::size_t>(length), "0000:%02x:00.0", device + 1);
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = devices() == 0 ? 0 : 13000;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}

}  // extern "C"
