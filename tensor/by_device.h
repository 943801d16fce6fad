// Which of a kernel's twins runs: kernels::f on the cpu, kernels::cuda::f (the same arguments, and
// a stream) where the operands lie on a CUDA device. For the tensor room only.
#pragma once

#include <utility>

#include "kernels/cuda/stream.h"
#include "tensor/stream.h"

namespace weft::tensor {

template <class Cpu, class Cuda>
decltype(auto) by_device(Device device, Cpu&& on_cpu, Cuda&& on_cuda) {
  if (device.type == DeviceType::cpu) return std::forward<Cpu>(on_cpu)();
  const DeviceGuard guard(device);
  return std::forward<Cuda>(on_cuda)(Stream::current(device).handle());
}

}  // namespace weft::tensor

// WEFT_BY_DEVICE(x.device(), softmax, kind, dtype, ...). A macro, because what is passed on is a
// name: an overload set has no type, and braced arguments none either.
#define WEFT_BY_DEVICE(device, kernel, ...)                                                   \
  ::weft::tensor::by_device((device), [&] { return ::weft::kernels::kernel(__VA_ARGS__); },   \
                            [&](::weft::kernels::cuda::Stream weft_stream) {                  \
                              return ::weft::kernels::cuda::kernel(__VA_ARGS__, weft_stream); \
                            })
