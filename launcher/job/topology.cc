#include "launcher/job/topology.h"

#include <fmt/format.h>
#include <hwloc.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <set>
#include <string_view>

#include "comm/hwloc_handles.h"
#include "kernels/base/error.h"

namespace weft::launcher {
namespace {

using comm::Bitmap;
using comm::Topology;

Topology load() {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) fail<IoError>("hwloc cannot be initialised");
  Topology topology(raw);
  if (hwloc_topology_load(raw) != 0) {
    fail<IoError>("hwloc cannot read this machine's topology (is /sys mounted?)");
  }
  return topology;
}

std::vector<int> members(hwloc_const_bitmap_t bitmap) {
  std::vector<int> indices;
  for (int i = hwloc_bitmap_first(bitmap); i >= 0; i = hwloc_bitmap_next(bitmap, i)) {
    indices.push_back(i);
  }
  return indices;
}

int index_of(hwloc_topology_t topology, hwloc_obj_t object, hwloc_obj_type_t type) {
  const hwloc_obj_t above = hwloc_get_ancestor_obj_by_type(topology, type, object);
  return above != nullptr ? static_cast<int>(above->logical_index) : -1;
}

// The folder of our group below /sys/fs/cgroup, from /proc/self/cgroup ("0::/a/b", or version 1's
// "4:cpu,cpuacct:/a/b").
std::string own_group() {
  std::ifstream file("/proc/self/cgroup");
  std::string line;
  while (std::getline(file, line)) {
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers =
        fmt::format(",{},", std::string_view(line).substr(first + 1, second - first - 1));
    if (controllers == ",,") return line.substr(second + 1);
    if (controllers.find(",cpu,") != std::string::npos) {
      return fmt::format("/cpu{}", line.substr(second + 1));
    }
  }
  return "/";
}

double quota_in(const std::string& folder) {
  double quota = 0;
  double period = 0;
  if (std::ifstream max(folder + "/cpu.max"); max >> quota >> period) {
    return period > 0 ? quota / period : 0;  // "max 100000" does not parse: no limit
  }
  std::ifstream old_quota(folder + "/cpu.cfs_quota_us");
  std::ifstream old_period(folder + "/cpu.cfs_period_us");
  if (old_quota >> quota && old_period >> period && quota > 0 && period > 0) return quota / period;
  return 0;
}

template <class Key>
int count_distinct(const std::vector<Core>& cores, Key key) {
  std::set<int> seen;
  for (const auto& core : cores) seen.insert(key(core));
  return static_cast<int>(seen.size());
}

std::string plural(int count, std::string_view what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

}  // namespace

double read_cpu_quota(const std::string& root, const std::string& group_folder) {
  double smallest = 0;
  std::string group = group_folder;
  while (true) {
    const double quota = quota_in(root + group);
    if (quota > 0 && (smallest == 0 || quota < smallest)) smallest = quota;
    const auto slash = group.find_last_of('/');
    if (group.empty() || slash == std::string::npos) break;
    group.resize(slash);
  }
  return smallest;
}

Machine read_machine() {
  const Topology topology = load();
  Machine machine;
  machine.is_this_system = hwloc_topology_is_thissystem(topology.get()) != 0;
  Bitmap allowed(hwloc_bitmap_dup(hwloc_topology_get_allowed_cpuset(topology.get())));
  if (machine.is_this_system) {
    const Bitmap affinity(hwloc_bitmap_alloc());
    if (hwloc_get_cpubind(topology.get(), affinity.get(), HWLOC_CPUBIND_THREAD) == 0) {
      hwloc_bitmap_and(allowed.get(), allowed.get(), affinity.get());
    }
    machine.cpu_quota = read_cpu_quota("/sys/fs/cgroup", own_group());
  }
  const bool has_cores = hwloc_get_nbobjs_by_type(topology.get(), HWLOC_OBJ_CORE) > 0;
  const hwloc_obj_type_t unit = has_cores ? HWLOC_OBJ_CORE : HWLOC_OBJ_PU;
  hwloc_obj_t object = nullptr;
  while ((object = hwloc_get_next_obj_by_type(topology.get(), unit, object)) != nullptr) {
    const Bitmap usable(hwloc_bitmap_alloc());
    hwloc_bitmap_and(usable.get(), object->cpuset, allowed.get());
    if (hwloc_bitmap_iszero(usable.get())) continue;
    Core core;
    core.cpus = members(usable.get());
    core.numa = std::max(0, hwloc_bitmap_first(object->nodeset));
    core.l3 = index_of(topology.get(), object, HWLOC_OBJ_L3CACHE);
    if (core.l3 < 0) core.l3 = std::max(0, index_of(topology.get(), object, HWLOC_OBJ_PACKAGE));
    machine.cores.push_back(std::move(core));
  }
  if (machine.cores.empty()) fail<IoError>("hwloc finds no core that this process may use");
  return machine;
}

int Machine::numa_nodes() const {
  return count_distinct(cores, [](const Core& core) { return core.numa; });
}

int Machine::l3_caches() const {
  return count_distinct(cores, [](const Core& core) { return core.l3; });
}

int Machine::core_budget() const {
  const int count = static_cast<int>(cores.size());
  if (cpu_quota <= 0) return count;
  return std::clamp(static_cast<int>(std::floor(cpu_quota)), 1, count);
}

std::string Machine::summary() const {
  std::size_t threads = 0;
  for (const auto& core : cores) threads += core.cpus.size();
  std::string text = plural(static_cast<int>(cores.size()), "core");
  if (threads != cores.size()) text += fmt::format(" ({} threads)", threads);
  text +=
      fmt::format(", {}, {}", plural(numa_nodes(), "NUMA node"), plural(l3_caches(), "L3 cache"));
  if (cpu_quota > 0) text += fmt::format(", quota of {:.3g} CPUs", cpu_quota);
  return text;
}

std::string format_cpus(const std::vector<int>& cpus) {
  std::string text;
  for (std::size_t i = 0; i < cpus.size();) {
    std::size_t last = i;
    while (last + 1 < cpus.size() && cpus[last + 1] == cpus[last] + 1) ++last;
    if (!text.empty()) text += ',';
    text += last == i ? fmt::format("{}", cpus[i]) : fmt::format("{}-{}", cpus[i], cpus[last]);
    i = last + 1;
  }
  return text;
}

}  // namespace weft::launcher
