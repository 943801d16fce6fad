#include "kernels/cuda/status.h"

#include <cuda_runtime_api.h>

#include "kernels/base/error.h"

namespace weft::kernels::cuda {
namespace {

// Errors that stay: every later call of this process gives them again.
bool stays(cudaError_t status) {
  return status == cudaErrorIllegalAddress || status == cudaErrorLaunchFailure ||
         status == cudaErrorAssert || status == cudaErrorMisalignedAddress ||
         status == cudaErrorIllegalInstruction || status == cudaErrorHardwareStackError ||
         status == cudaErrorLaunchTimeout;
}

}  // namespace

std::string kernel_name(const void* kernel) {
  const char* name = nullptr;
  if (cudaFuncGetName(&name, kernel) == cudaSuccess && name != nullptr) return name;
  cudaGetLastError();
  return "a kernel";
}

void check(int code, const char* operation) {
  const auto status = static_cast<cudaError_t>(code);
  if (status == cudaSuccess) return;
  cudaGetLastError();  // told here, so not again by the next call
  const char* const text = cudaGetErrorString(status);
  const char* const name = cudaGetErrorName(status);
  switch (status) {
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorNotSupported:
      fail<Unsupported>("{}: {} ({}).", operation, text, name);
    case cudaErrorInvalidDevice:
    case cudaErrorInvalidValue:
    case cudaErrorInvalidDevicePointer:
    case cudaErrorInvalidResourceHandle:
    case cudaErrorInvalidConfiguration:
      fail<InvalidArgument>("{}: {} ({}).", operation, text, name);
    default:
      break;
  }
  fail<IoError>("{} failed: {} ({}).{}", operation, text, name,
                stays(status)
                    ? " A kernel queued earlier may be the cause, and the device is of no "
                      "further use to this process; compute-sanitizer finds which."
                    : "");
}

void check_launch(int code, const void* kernel, const LaunchShape& shape) {
  if (code == cudaSuccess) return;
  const auto operation = fmt::format(
      "launch of {} with {}x{}x{} blocks of {}x{}x{} threads, {} bytes of shared memory{}",
      kernel_name(kernel), shape.grid[0], shape.grid[1], shape.grid[2], shape.block[0],
      shape.block[1], shape.block[2], shape.shared_bytes, shape.cooperative ? ", cooperative" : "");
  check(code, operation.c_str());
}

void refuse(const std::string& message) { throw InvalidArgument(message); }

void unsupported(const std::string& message) { throw Unsupported(message); }

int multiprocessors() {
  int device = 0, count = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device),
        "cudaDeviceGetAttribute");
  return count;
}

}  // namespace weft::kernels::cuda
