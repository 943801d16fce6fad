// Memory and events of other processes of this host.
#include <cuda_runtime_api.h>

#include <bit>

#include "kernels/base/error.h"
#include "kernels/cuda/runtime.h"
#include "kernels/cuda/status.h"

namespace weft::kernels::cuda {
namespace {

static_assert(sizeof(cudaIpcMemHandle_t) == sizeof(IpcHandle));
static_assert(sizeof(cudaIpcEventHandle_t) == sizeof(IpcHandle));

// The driver answers a refusal of the system with one of several errors.
void check_shared(cudaError_t status, const char* operation) {
  if (status == cudaSuccess) return;
  cudaGetLastError();
  if (status == cudaErrorNoDevice || status == cudaErrorInsufficientDriver) {
    check(status, operation);
  }
  fail<IoError>(
      "{} failed: {} ({}). Sharing device memory needs processes of one host, user and pid "
      "namespace (containers: --ipc=host --pid=host), the same device visible to both, peer "
      "access between the two devices where they are two, and an owner that still holds the "
      "memory. Ranks as threads of one process need none of this.",
      operation, cudaGetErrorString(status), cudaGetErrorName(status));
}

}  // namespace

IpcHandle export_memory(void* data) {
  if (device_count() == 0) unsupported("exporting device memory: " + reason_for_none());
  if (device_of(data) < 0) {
    fail<InvalidArgument>(
        "exporting {}: it is not memory of a CUDA device; export what allocate() "
        "gave.",
        data);
  }
  cudaIpcMemHandle_t handle;
  check_shared(cudaIpcGetMemHandle(&handle, data), "cudaIpcGetMemHandle");
  return std::bit_cast<IpcHandle>(handle);
}

void* import_memory(const IpcHandle& handle) {
  void* data = nullptr;
  check_shared(cudaIpcOpenMemHandle(&data, std::bit_cast<cudaIpcMemHandle_t>(handle),
                                    cudaIpcMemLazyEnablePeerAccess),
               "cudaIpcOpenMemHandle");
  return data;
}

void close_imported(void* data) noexcept {
  if (data != nullptr) cudaIpcCloseMemHandle(data);
}

void* create_shared_event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming | cudaEventInterprocess),
        "cudaEventCreateWithFlags");
  return event;
}

IpcHandle export_event(void* event) {
  cudaIpcEventHandle_t handle;
  check_shared(cudaIpcGetEventHandle(&handle, static_cast<cudaEvent_t>(event)),
               "cudaIpcGetEventHandle");
  return std::bit_cast<IpcHandle>(handle);
}

void* import_event(const IpcHandle& handle) {
  cudaEvent_t event = nullptr;
  check_shared(cudaIpcOpenEventHandle(&event, std::bit_cast<cudaIpcEventHandle_t>(handle)),
               "cudaIpcOpenEventHandle");
  return event;
}

}  // namespace weft::kernels::cuda
