// Apart from memory_use.cc: programs that only plan need no allocator, and no device.
#include "tensor/cpu_allocator.h"
#include "tensor/cuda_allocator.h"
#include "tensor/memory_use.h"

namespace weft::tensor {

TensorMemory tensor_memory(Device device) {
  if (device.type == DeviceType::cuda) {
    const auto stats = cuda_memory_stats(device);
    return {stats.in_use, stats.peak_in_use};
  }
  const auto stats = cpu_memory_stats();
  return {stats.asked, stats.peak_asked};
}

void reset_tensor_memory_peak(Device device) {
  if (device.type == DeviceType::cuda) return reset_cuda_memory_peak(device);
  reset_cpu_memory_peak();
}

}  // namespace weft::tensor
