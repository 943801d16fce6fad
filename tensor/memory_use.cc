#include "tensor/memory_use.h"

#include <fmt/format.h>

#include <array>

#include "tensor/cpu_allocator.h"
#include "tensor/cuda_allocator.h"

namespace weft::tensor {

std::string describe(Bytes bytes) {
  constexpr std::array kUnits = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes.value < 1024) return fmt::format("{} B", bytes.value);
  double value = static_cast<double>(bytes.value) / 1024;
  std::size_t unit = 0;
  while (value >= 999.5 && unit + 1 < kUnits.size()) {  // 1000 MiB would need four digits
    value /= 1024;
    ++unit;
  }
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f} {}", value, decimals, kUnits[unit]);
}

std::string describe(const MemoryUse& use) {
  std::string text =
      fmt::format("parameters {}, gradients {}, optimizer {}", describe(use.parameters),
                  describe(use.gradients), describe(use.optimizer));
  if (use.gathered > Bytes(0)) text += ", gathered " + describe(use.gathered);
  text += ", activations " + describe(use.activations) + ", peak " + describe(use.peak);
  if (use.host > Bytes(0)) text += ", in host memory " + describe(use.host);
  return text;
}

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
