// What `weft info` says of devices.
#include "launcher/commands/cuda_info.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "kernels/cuda/runtime.h"
#include "tests/support/scratch.h"

namespace weft {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(CudaInfo, TellsEveryDeviceAndWhoReachesWhom) {
  const int count = kernels::cuda::device_count();
  const std::string text = launcher::cuda_devices_text();
  if (count == 0) {
    EXPECT_EQ(text, "none (" + kernels::cuda::reason_for_none() + ")");
    return;
  }
  EXPECT_THAT(text, StartsWith(std::to_string(count) + " (CUDA "));
  for (int index = 0; index < count; ++index) {
    const auto device = kernels::cuda::device_info(index);
    EXPECT_THAT(text, HasSubstr(std::to_string(index) + ": " + device.name));
    EXPECT_THAT(text, HasSubstr("PCI " + device.pci_bus_id));
    EXPECT_THAT(text, HasSubstr(device.uuid));
  }
  EXPECT_THAT(text, HasSubstr(" MiB free"));
  EXPECT_THAT(text, HasSubstr("matrix products: "));
  EXPECT_EQ(count > 1, text.find("peer access") != std::string::npos);
}

TEST(CudaInfo, NearestCpusComeFromSys) {
  const std::string root = tests::scratch("pci");
  std::filesystem::create_directories(root + "/0000:1b:00.0");
  std::ofstream(root + "/0000:1b:00.0/numa_node") << "1\n";
  std::ofstream(root + "/0000:1b:00.0/local_cpulist") << "8-15\n";
  EXPECT_EQ(launcher::nearest_cpus(root, "0000:1B:00.0"), "NUMA node 1, cpus 8-15");
  std::ofstream(root + "/0000:1b:00.0/numa_node") << "-1\n";
  EXPECT_EQ(launcher::nearest_cpus(root, "0000:1b:00.0"), "cpus 8-15");
  EXPECT_EQ(launcher::nearest_cpus(root, "0000:00:00.0"), "");
  EXPECT_EQ(launcher::nearest_cpus(root, "../x"), "");
  EXPECT_EQ(launcher::nearest_cpus(root, ""), "");
  std::filesystem::remove_all(root);
}

}  // namespace
}  // namespace weft
