// Which ranks share a host, in the order in which their nearness suggests to visit them: what
// hierarchical algorithms and the simulator are told of a topology. Indices are ranks of the
// communicator.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace weft::comm {

// Any partition is possible: hosts of different sizes, ranks of one host that are not consecutive,
// lists in any order.
struct HostMap {
  // hosts[h] lists the ranks of host h, at least one: the first leads, and neighbours in the list
  // are near each other (same NUMA node, same package) where the host has several. Hosts are in
  // ring order.
  std::vector<std::vector<std::int32_t>> hosts;
  std::vector<std::int32_t> host_of;  // by rank
  // What follows from the above, so that nobody has to look for it; host_map_of() fills it in. Ask
  // index_in_host() and host_sizes(), which do look where it is missing.
  std::vector<std::int32_t> index_of;  // by rank: its place in the list of its host
  std::int32_t smallest = 0;           // ranks of the smallest host, and of the largest
  std::int32_t largest = 0;

  bool operator==(const HostMap&) const = default;
};

std::int32_t index_in_host(const HostMap& map, std::int32_t rank);

struct HostSizes {
  std::int32_t smallest = 0;
  std::int32_t largest = 0;
};
HostSizes host_sizes(const HostMap& map);

// The map of these hosts, whose lists must hold each of the ranks 0..n-1 once; throws
// InvalidArgument naming the rank that is missing or twice there, or the host that is empty.
HostMap host_map_of(std::vector<std::vector<std::int32_t>> hosts);

// The map of a group of these ranks (each once), renumbered: rank i of it is ranks[i]. The order of
// hosts, and that of ranks within them, stays.
HostMap host_map_of_group(const HostMap& map, std::span<const int> ranks);

}  // namespace weft::comm
