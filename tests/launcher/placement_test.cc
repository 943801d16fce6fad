#include "launcher/job/placement.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "launcher/job/devices.h"
#include "launcher/job/launch_error.h"
#include "tests/support/scratch.h"

namespace weft::launcher {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// `numa` nodes of `caches` L3 caches of `cores` cores of `threads` hardware threads.
Machine machine_of(int numa, int caches, int cores, int threads) {
  Machine machine;
  int cpu = 0;
  for (int node = 0; node < numa; ++node) {
    for (int cache = 0; cache < caches; ++cache) {
      for (int core = 0; core < cores; ++core) {
        Core one;
        one.numa = node;
        one.l3 = node * caches + cache;
        for (int thread = 0; thread < threads; ++thread) one.cpus.push_back(cpu++);
        machine.cores.push_back(one);
      }
    }
  }
  return machine;
}

TEST(Placement, AutoPrefersNumaThenCachesThenHalves) {
  EXPECT_EQ(automatic_ranks(machine_of(4, 2, 2, 2)), 4);
  EXPECT_EQ(automatic_ranks(machine_of(1, 3, 4, 1)), 3);
  EXPECT_EQ(automatic_ranks(machine_of(1, 1, 8, 2)), 2);
  EXPECT_EQ(automatic_ranks(machine_of(1, 1, 2, 1)), 2);
  EXPECT_EQ(automatic_ranks(machine_of(1, 1, 1, 2)), 1);
}

TEST(Placement, AutoKeepsToTheQuota) {
  Machine machine = machine_of(4, 1, 4, 1);
  machine.cpu_quota = 2.5;
  EXPECT_EQ(automatic_ranks(machine), 2);
  machine.cpu_quota = 0.5;
  EXPECT_EQ(automatic_ranks(machine), 1);
  const auto shares = share_out(machine, 8, Binding::none);
  for (const auto& share : shares) EXPECT_EQ(share.threads, 1);
}

TEST(Placement, OneRankANumaNode) {
  const auto shares = share_out(machine_of(2, 1, 3, 1), 2, Binding::core);
  ASSERT_EQ(shares.size(), 2u);
  EXPECT_THAT(shares[0].bound_cpus, ElementsAre(0, 1, 2));
  EXPECT_THAT(shares[1].bound_cpus, ElementsAre(3, 4, 5));
  EXPECT_EQ(shares[0].threads, 3);
}

TEST(Placement, CoresAreCutIntoRunsWithEqualThreads) {
  const auto shares = share_out(machine_of(1, 1, 8, 2), 3, Binding::core);
  ASSERT_EQ(shares.size(), 3u);
  EXPECT_THAT(shares[0].cpus, ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(shares[1].cpus, ElementsAre(4, 5, 6, 7, 8, 9));
  EXPECT_THAT(shares[2].cpus, ElementsAre(10, 11, 12, 13, 14, 15));
  for (const auto& share : shares) EXPECT_EQ(share.threads, 2);
}

TEST(Placement, MoreRanksThanCoresShareHardwareThreads) {
  const auto shares = share_out(machine_of(1, 1, 2, 2), 8, Binding::core);
  ASSERT_EQ(shares.size(), 8u);
  EXPECT_THAT(shares[0].bound_cpus, ElementsAre(0));
  EXPECT_THAT(shares[1].bound_cpus, ElementsAre(0));
  EXPECT_THAT(shares[7].bound_cpus, ElementsAre(3));
}

TEST(Placement, NumaBindingCoversTheNodesOfTheCores) {
  const auto shares = share_out(machine_of(2, 1, 3, 1), 3, Binding::numa);
  EXPECT_THAT(shares[0].bound_cpus, ElementsAre(0, 1, 2));
  EXPECT_THAT(shares[1].bound_cpus, ElementsAre(0, 1, 2, 3, 4, 5));  // its cores are 2 and 3
  EXPECT_THAT(shares[2].bound_cpus, ElementsAre(3, 4, 5));
}

TEST(Placement, AnImaginedMachineIsNeverBoundTo) {
  Machine machine = machine_of(2, 1, 2, 1);
  machine.is_this_system = false;
  for (const auto& share : share_out(machine, 2, Binding::core)) {
    EXPECT_TRUE(share.bound_cpus.empty());
  }
}

TEST(Placement, FormatsRunsOfCpus) {
  EXPECT_EQ(format_cpus({}), "");
  EXPECT_EQ(format_cpus({0, 1, 2, 3, 8, 10, 11}), "0-3,8,10-11");
}

TEST(Topology, ThisMachineHasCores) {
  const Machine machine = read_machine();
  ASSERT_FALSE(machine.cores.empty());
  for (const auto& core : machine.cores) EXPECT_FALSE(core.cpus.empty());
  EXPECT_GE(machine.core_budget(), 1);
}

class Quota : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(root_ / "a/b"); }
  void put(const std::string& file, const std::string& text) {
    std::ofstream(root_ / file) << text;
  }

  const tests::ScratchDirectory root_;
};

TEST_F(Quota, SmallestOnTheWayUp) {
  EXPECT_EQ(read_cpu_quota(root_.path(), "/a/b"), 0);
  put("a/b/cpu.max", "max 100000\n");
  EXPECT_EQ(read_cpu_quota(root_.path(), "/a/b"), 0);
  put("a/cpu.max", "250000 100000\n");
  EXPECT_EQ(read_cpu_quota(root_.path(), "/a/b"), 2.5);
  put("a/b/cpu.max", "400000 100000\n");
  EXPECT_EQ(read_cpu_quota(root_.path(), "/a/b"), 2.5);
}

TEST_F(Quota, VersionOne) {
  put("a/cpu.cfs_quota_us", "-1\n");
  put("a/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(read_cpu_quota(root_.path(), "/a"), 0);
  put("a/cpu.cfs_quota_us", "150000\n");
  EXPECT_EQ(read_cpu_quota(root_.path(), "/a"), 1.5);
}

std::string refusal(const std::string& accelerator, const std::string& devices, int cuda) {
  try {
    resolve_devices(accelerator, devices, machine_of(1, 1, 4, 1), cuda);
  } catch (const LaunchError& error) {
    EXPECT_EQ(error.exit_code(), 2);
    return error.what();
  }
  return "accepted";
}

TEST(Devices, Cpu) {
  const Machine machine = machine_of(1, 1, 4, 1);
  EXPECT_EQ(resolve_devices("auto", "3", machine, 0).count, 3);
  EXPECT_EQ(resolve_devices("cpu", "auto", machine, 8).count, 2);
  for (const char* bad : {"0", "-1", "-3", "x", "", "0,2", "1.5", "4097"}) {
    EXPECT_THAT(refusal("cpu", bad, 0), HasSubstr(std::string("--devices=") + bad)) << bad;
  }
  EXPECT_THAT(refusal("cpu", "0", 0), HasSubstr("should be an int > 0"));
}

TEST(Devices, Cuda) {
  const Machine machine = machine_of(1, 1, 4, 1);
  EXPECT_THAT(resolve_devices("auto", "2", machine, 4).indices, ElementsAre(0, 1));
  EXPECT_THAT(resolve_devices("gpu", "-1", machine, 3).indices, ElementsAre(0, 1, 2));
  EXPECT_THAT(resolve_devices("cuda", "auto", machine, 2).indices, ElementsAre(0, 1));
  const Devices listed = resolve_devices("cuda", "0,2", machine, 4);
  EXPECT_EQ(listed.count, 2);
  EXPECT_EQ(listed.text(), "0,2");
  EXPECT_EQ(resolve_devices("cuda", "2,", machine, 4).text(), "2,");
  EXPECT_EQ(resolve_devices("cuda", "2", machine, 4).text(), "2");
  EXPECT_THAT(refusal("cuda", "0,4", 4), HasSubstr("no device 4"));
  EXPECT_THAT(refusal("cuda", "1,1", 4), HasSubstr("named twice"));
  EXPECT_THAT(refusal("cuda", "5", 4), HasSubstr("has 4 CUDA devices"));
  EXPECT_THAT(refusal("cuda", ",", 4), HasSubstr("expected"));
  EXPECT_THAT(refusal("cuda", "1,1", 4), HasSubstr("--share-devices"));
  EXPECT_THAT(refusal("cuda", "5", 4), HasSubstr("--share-devices"));
  EXPECT_EQ(listed.by_rank(), "0,2");
}

TEST(Devices, RanksShareCudaDevicesWhenTold) {
  const Machine machine = machine_of(1, 1, 4, 1);
  const Devices twice = resolve_devices("cuda", "1,1", machine, 2, true);
  EXPECT_THAT(twice.indices, ElementsAre(1, 1));
  EXPECT_EQ(twice.text(), "1,1");
  const Devices dealt = resolve_devices("cuda", "5", machine, 2, true);
  EXPECT_THAT(dealt.indices, ElementsAre(0, 1, 0, 1, 0));
  EXPECT_EQ(dealt.by_rank(), "0,1,0,1,0");
  EXPECT_EQ(resolve_devices("cpu", "3", machine, 2, true).by_rank(), "");
}

TEST(Devices, AcceleratorsThatAreNotThere) {
  EXPECT_THAT(refusal("cuda", "1", 0), HasSubstr("no CUDA device"));
  EXPECT_THAT(refusal("gpu", "1", 0), HasSubstr("no CUDA device"));
  EXPECT_THAT(refusal("tpu", "1", 0), HasSubstr("does not support"));
  EXPECT_THAT(refusal("mps", "1", 0), HasSubstr("does not support"));
}

}  // namespace
}  // namespace weft::launcher
