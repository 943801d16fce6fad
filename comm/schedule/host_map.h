// Which ranks share a host, in the order in which their nearness suggests to visit them: what
// hierarchical algorithms and the simulator are told of a topology. Indices are ranks of the
// communicator.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace weft::comm {

// Made by host_map_of(); read-only from then on. Any partition is possible: hosts of different
// sizes, ranks of one host that are not consecutive, lists in any order.
struct HostMap {
  // hosts[h] lists the ranks of host h: the first leads, and neighbours in the list are near each
  // other (same NUMA node, same package) where the host has several. Hosts are in ring order.
  std::vector<std::vector<std::int32_t>> hosts;
  std::vector<std::int32_t> host_of;   // by rank
  std::vector<std::int32_t> index_of;  // by rank: its place in the list of its host
  std::int32_t smallest = 0;           // ranks of the smallest host, and of the largest
  std::int32_t largest = 0;

  bool operator==(const HostMap&) const = default;
};

// The map of these hosts, whose lists must hold each of the ranks 0..n-1 once; throws
// InvalidArgument naming the rank that is missing or twice there, or the host that is empty.
HostMap host_map_of(std::vector<std::vector<std::int32_t>> hosts);

// The map of a group of these ranks (each once), renumbered: rank i of it is ranks[i]. The order of
// hosts, and that of ranks within them, stays.
HostMap host_map_of_group(const HostMap& map, std::span<const int> ranks);

}  // namespace weft::comm
