#include "launcher/commands/cuda_info.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <fstream>

#include "kernels/base/error.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/runtime.h"

namespace weft::launcher {
namespace {

namespace cuda = kernels::cuda;

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::string free_memory(int device) {
  try {
    const cuda::DeviceGuard guard(device);
    return fmt::format("{} MiB free", cuda::memory_info().free.value >> 20);
  } catch (const Error& error) {  // in use by somebody who wants it alone, say
    return fmt::format("cannot be used: {}", error.what());
  }
}

std::string describe(int index) {
  const cuda::DeviceInfo device = cuda::device_info(index);
  std::string text = fmt::format(
      "\n  {}: {}, compute capability {}.{}, {} multiprocessors, {} MiB ({}), L2 {} MiB", index,
      device.name, device.major, device.minor, device.multiprocessors, device.memory.value >> 20,
      free_memory(index), device.l2_cache.value >> 20);
  const std::string cpus = nearest_cpus("/sys/bus/pci/devices", device.pci_bus_id);
  text += fmt::format("\n     PCI {}{}{}, {}", device.pci_bus_id, cpus.empty() ? "" : ", near ",
                      cpus, device.uuid);
  return text;
}

// Who reads and writes whose memory without the host: the table of collectives over CUDA IPC.
std::string peer_table(int count) {
  std::string text = "\n  peer access:  ";
  for (int peer = 0; peer < count; ++peer) text += fmt::format("{:>5}", peer);
  for (int device = 0; device < count; ++device) {
    text += fmt::format("\n  {:>14}", device);
    for (int peer = 0; peer < count; ++peer) {
      const bool reaches = device == peer || cuda::can_access_peer(device, peer);
      text += fmt::format("{:>5}", device == peer ? "self" : reaches ? "yes" : "no");
    }
  }
  return text;
}

}  // namespace

std::string nearest_cpus(const std::string& root, const std::string& pci_bus_id) {
  std::string name = pci_bus_id;  // CUDA may write it in capitals, /sys does not
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (name.empty() || name.find('/') != std::string::npos) return {};
  const std::string folder = root + "/" + name;
  const std::string node = first_line(folder + "/numa_node");
  const std::string cpus = first_line(folder + "/local_cpulist");
  std::string text;
  if (!node.empty() && node != "-1") text = "NUMA node " + node;
  if (!cpus.empty()) text += (text.empty() ? "cpus " : ", cpus ") + cpus;
  return text;
}

std::string cuda_devices_text() {
  const int count = cuda::device_count();
  if (count == 0) return "none (" + cuda::reason_for_none() + ")";
  try {
    std::string text = fmt::format("{} (CUDA {}, the driver serves {})", count,
                                   cuda::runtime_version(), cuda::driver_version());
    for (int index = 0; index < count; ++index) text += describe(index);
    if (count > 1) text += peer_table(count);
    const std::string no_products = cuda::reason_for_no_gemm();
    text += "\n  matrix products: " + (no_products.empty() ? "cuBLASLt" : no_products);
    return text;
  } catch (const Error& error) {
    return fmt::format("{}, but asking for more failed: {}", count, error.what());
  }
}

}  // namespace weft::launcher
