// The host's half of the CUDA backend. Compiled by the C++ compiler: nvcc sees device code alone,
// and none of the libraries that the rest of weft stands on.
#include <cuda_runtime_api.h>

#include "kernels/base/error.h"
#include "kernels/cuda.h"
#include "kernels/cuda/launch.h"

namespace weft::kernels::cuda {
namespace {

void check(int code, const char* operation) {
  const auto status = static_cast<cudaError_t>(code);
  if (status == cudaSuccess) return;
  if (status == cudaErrorNoDevice || status == cudaErrorInsufficientDriver) {
    fail<Unsupported>("{}: {}.", operation, cudaGetErrorString(status));
  }
  fail<IoError>("{} failed: {} ({}).", operation, cudaGetErrorString(status),
                cudaGetErrorName(status));
}

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

void cast_from_f32(void* to, DType to_type, const float* from, Elems count, double scale,
                   Stream stream) {
  if (!is_half(to_type)) {
    fail<InvalidArgument>("CUDA cast: expected f16 or bf16 as the type to cast to, found {}.",
                          name_of(to_type));
  }
  if (count.value <= 0) return;
  const auto launch = to_type == DType::f16 ? launch_cast_to_half : launch_cast_to_bfloat16;
  check(launch(to, from, count.value, static_cast<float>(scale), stream), "the CUDA cast kernel");
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
