// Launching: cudaLaunchKernelEx knows the kernel's parameters by type, copies the arguments and
// queues a call.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <utility>

namespace weft::emulated {

// One launch as it is queued, captured into graphs and replayed.
struct Launch {
  const void* kernel = nullptr;
  const char* type = "";       // of the kernel, mangled: for messages
  std::function<void()> call;  // the kernel with its arguments, by one CUDA thread
  dim3 grid, block;
  std::size_t shared_bytes = 0;
  bool cooperative = false;
};

// Whether a kernel on the current device may follow this pointer: device memory, pinned memory,
// mapped memory of a peer; nullptr counts. What is not is remembered for the error's text.
bool device_may_use(const void* pointer, int argument);

cudaError_t queue_launch(Launch launch, cudaStream_t stream);

template <class T>
bool argument_is_usable(const T& value, int argument) {
  if constexpr (std::is_pointer_v<T>) {
    if constexpr (!std::is_function_v<std::remove_pointer_t<T>>) {
      return device_may_use(static_cast<const void*>(value), argument);
    }
  }
  return true;
}

}  // namespace weft::emulated

template <class... Parameters, class... Args>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Args&&... args) {
  std::tuple<std::remove_cv_t<Parameters>...> copies(static_cast<Parameters>(args)...);
  const bool usable = std::apply(
      [](const auto&... values) {
        int argument = 0;
        return (weft::emulated::argument_is_usable(values, argument++) && ... && true);
      },
      copies);
  if (!usable) return cudaErrorIllegalAddress;
  weft::emulated::Launch launch;
  launch.kernel = reinterpret_cast<const void*>(kernel);
  launch.type = typeid(kernel).name();
  launch.call = [kernel, copies = std::move(copies)] { std::apply(kernel, copies); };
  launch.grid = config->gridDim;
  launch.block = config->blockDim;
  launch.shared_bytes = config->dynamicSmemBytes;
  for (unsigned i = 0; i < config->numAttrs; ++i) {
    if (config->attrs[i].id == cudaLaunchAttributeCooperative) {
      launch.cooperative = config->attrs[i].val.cooperative != 0;
    }
  }
  return weft::emulated::queue_launch(std::move(launch), config->stream);
}
