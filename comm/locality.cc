#include "comm/locality.h"

#include <hwloc.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "comm/environment.h"
#include "comm/hwloc_handles.h"
#include "comm/memory_space.h"
#include "comm/rendezvous/wire.h"

namespace weft::comm {

namespace {

// Packages, NUMA nodes and last-level caches; null if hwloc cannot say.
Topology load() {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) return nullptr;
  Topology topology(raw);
  hwloc_topology_set_all_types_filter(raw, HWLOC_TYPE_FILTER_KEEP_NONE);
  hwloc_topology_set_type_filter(raw, HWLOC_OBJ_PACKAGE, HWLOC_TYPE_FILTER_KEEP_ALL);
  hwloc_topology_set_type_filter(raw, HWLOC_OBJ_L3CACHE, HWLOC_TYPE_FILTER_KEEP_ALL);
  return hwloc_topology_load(raw) == 0 ? std::move(topology) : nullptr;
}

// The one object of a type that all these CPUs belong to; -1 if there is none.
int only_one(hwloc_topology_t topology, hwloc_obj_type_t type, hwloc_const_bitmap_t cpus) {
  hwloc_obj_t object = nullptr;
  while ((object = hwloc_get_next_obj_by_type(topology, type, object)) != nullptr) {
    if (object->cpuset != nullptr && hwloc_bitmap_isincluded(cpus, object->cpuset) != 0) {
      return static_cast<int>(object->logical_index);
    }
  }
  return -1;
}

void find_place(Locality& mine) {
  const Topology topology = load();
  if (!topology) return;
  const Bitmap cpus(hwloc_bitmap_dup(hwloc_topology_get_allowed_cpuset(topology.get())));
  mine.cpus = hwloc_bitmap_weight(cpus.get());
  const Bitmap bound(hwloc_bitmap_alloc());
  if (hwloc_topology_is_thissystem(topology.get()) != 0 &&
      hwloc_get_cpubind(topology.get(), bound.get(), HWLOC_CPUBIND_PROCESS) == 0) {
    hwloc_bitmap_and(cpus.get(), cpus.get(), bound.get());
  }
  if (hwloc_bitmap_iszero(cpus.get()) != 0) return;
  mine.package = only_one(topology.get(), HWLOC_OBJ_PACKAGE, cpus.get());
  mine.numa = only_one(topology.get(), HWLOC_OBJ_NUMANODE, cpus.get());
  mine.l3 = only_one(topology.get(), HWLOC_OBJ_L3CACHE, cpus.get());
}

std::string own_key() {
  if (const char* set = std::getenv(env::kHostKey); set != nullptr && *set != '\0') return set;
  const std::string space = memory_space();
  return space.starts_with('/') ? this_host() + space : space;  // there is no boot id
}

// Ranks [begin, end) sorted so that those with equal keys are together, in the order of the lowest
// rank of each key, and in the order of ranks within it. Gives where the keys' runs end.
template <class Key>
std::vector<std::size_t> group(std::vector<std::int32_t>& ranks, std::size_t begin, std::size_t end,
                               Key key) {
  const auto first = ranks.begin() + static_cast<std::ptrdiff_t>(begin);
  const auto last = ranks.begin() + static_cast<std::ptrdiff_t>(end);
  std::map<decltype(key(0)), std::int32_t> lowest;
  for (auto rank = first; rank != last; ++rank) {
    const auto [at, fresh] = lowest.try_emplace(key(*rank), *rank);
    at->second = std::min(at->second, *rank);
  }
  std::sort(first, last, [&](std::int32_t a, std::int32_t b) {
    return std::tuple(lowest.at(key(a)), a) < std::tuple(lowest.at(key(b)), b);
  });
  std::vector<std::size_t> ends;
  for (std::size_t i = begin + 1; i <= end; ++i) {
    if (i == end || key(ranks[i]) != key(ranks[i - 1])) ends.push_back(i);
  }
  return ends;
}

}  // namespace

Locality this_locality() {
  Locality mine;
  mine.key = own_key();
  mine.host = this_host();
  find_place(mine);
  return mine;
}

void to_json(nlohmann::json& json, const Locality& locality) {
  json = {{"key", locality.key},   {"host", locality.host}, {"package", locality.package},
          {"numa", locality.numa}, {"l3", locality.l3},     {"cpus", locality.cpus}};
}

void from_json(const nlohmann::json& json, Locality& locality) {
  locality = {};
  if (!json.is_object()) return;
  const auto text = [&](const char* name) {
    const auto found = json.find(name);
    return found != json.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  const auto number = [&](const char* name) {
    const auto found = json.find(name);
    if (found == json.end() || !found->is_number_integer()) return -1;
    return static_cast<int>(std::clamp<std::int64_t>(found->get<std::int64_t>(), -1, 1 << 20));
  };
  locality.key = text("key");
  locality.host = text("host");
  locality.package = number("package");
  locality.numa = number("numa");
  locality.l3 = number("l3");
  locality.cpus = number("cpus");
}

HostMap make_host_map(std::span<const Locality> localities) {
  const auto of = [&](std::int32_t rank) -> const Locality& {
    return localities[static_cast<std::size_t>(rank)];
  };
  std::vector<std::int32_t> ranks(localities.size());
  for (std::size_t r = 0; r < ranks.size(); ++r) ranks[r] = static_cast<std::int32_t>(r);
  const auto host_key = [&](std::int32_t rank) {
    const Locality& place = of(rank);
    if (!place.key.empty()) return std::tuple(0, place.key, -1);
    if (!place.host.empty()) return std::tuple(1, place.host, -1);
    return std::tuple(2, std::string(), int(rank));
  };
  std::vector<std::vector<std::int32_t>> hosts;
  std::size_t host_begin = 0;
  for (const std::size_t host_end : group(ranks, 0, ranks.size(), host_key)) {
    const auto by_package = [&](std::int32_t rank) { return of(rank).package; };
    std::size_t begin = host_begin;
    for (const std::size_t package_end : group(ranks, host_begin, host_end, by_package)) {
      const auto by_numa = [&](std::int32_t rank) { return of(rank).numa; };
      for (const std::size_t numa_end : group(ranks, begin, package_end, by_numa)) {
        group(ranks, begin, numa_end, [&](std::int32_t rank) { return of(rank).l3; });
        begin = numa_end;
      }
    }
    hosts.emplace_back(ranks.begin() + static_cast<std::ptrdiff_t>(host_begin),
                       ranks.begin() + static_cast<std::ptrdiff_t>(host_end));
    host_begin = host_end;
  }
  return host_map_of(std::move(hosts));
}

}  // namespace weft::comm
