// What this machine has, and what of it we may use: hwloc's view within our cpuset and affinity,
// and the CPU quota of our control group.
#pragma once

#include <string>
#include <vector>

namespace weft::launcher {

struct Core {
  std::vector<int> cpus;  // OS indices of its hardware threads that we may use
  int numa = 0;           // logical index of its NUMA node
  int l3 = 0;             // of its last-level cache; of its package where there is none
};

struct Machine {
  std::vector<Core> cores;     // in hwloc's logical order: neighbours share caches
  double cpu_quota = 0;        // CPUs' worth of time that the control group grants; 0: no limit
  bool is_this_system = true;  // false under HWLOC_SYNTHETIC, HWLOC_XMLFILE: never bind

  int numa_nodes() const;
  int l3_caches() const;
  // Cores, or fewer where the quota is smaller; at least 1.
  int core_budget() const;
  std::string summary() const;  // "8 cores (16 threads), 2 NUMA nodes, 2 L3 caches"
};

Machine read_machine();  // throws IoError where hwloc finds nothing

// The smallest quota on the way up from `group_folder` to `root` (version 2: cpu.max), or that of
// version 1 (cpu.cfs_quota_us); 0: none.
double read_cpu_quota(const std::string& root, const std::string& group_folder);

// "0-3,8"
std::string format_cpus(const std::vector<int>& cpus);

}  // namespace weft::launcher
