#include "kernels/cuda/runtime.h"

#include <cuda_runtime_api.h>

#include "kernels/base/error.h"
#include "kernels/cuda/status.h"

namespace weft::kernels::cuda {
namespace {

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
  if (status == cudaSuccess) return "no CUDA device is visible to this process";
  return std::string("no usable CUDA driver: ") + cudaGetErrorString(status);
}

DeviceInfo device_info(int index) {
  const int count = device_count();
  if (index < 0 || index >= count) {
    const std::string reason = reason_for_none();
    fail<InvalidArgument>("CUDA device {}: expected 0..{}{}{}.", index, count - 1,
                          reason.empty() ? "" : ": ", reason);
  }
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
  DeviceInfo info;
  info.name = properties.name;
  info.major = properties.major;
  info.minor = properties.minor;
  info.memory = Bytes(static_cast<std::int64_t>(properties.totalGlobalMem));
  return info;
}

void* allocate(Bytes bytes) {
  void* data = nullptr;
  if (bytes.value > 0) check(cudaMalloc(&data, bytes.size()), "cudaMalloc");
  return data;
}

void release(void* data) noexcept { cudaFree(data); }

void copy_to_device(void* to, const void* from, Bytes bytes) {
  if (bytes.value > 0) {
    check(cudaMemcpy(to, from, bytes.size(), cudaMemcpyHostToDevice), "cudaMemcpy to the device");
  }
}

void copy_to_host(void* to, const void* from, Bytes bytes) {
  if (bytes.value > 0) {
    check(cudaMemcpy(to, from, bytes.size(), cudaMemcpyDeviceToHost), "cudaMemcpy to the host");
  }
}

}  // namespace weft::kernels::cuda
