// Which ranks share a host, in the order in which their nearness suggests to visit them: what
// hierarchical algorithms and the simulator are told of a topology. Indices are ranks of the
// communicator.
#pragma once

#include <cstdint>
#include <vector>

namespace weft::comm {

struct HostMap {
  // hosts[h] lists the ranks of host h: the first leads, and neighbours in the list are near each
  // other (same NUMA node, same package) where the host has several. Hosts are in ring order.
  std::vector<std::vector<std::int32_t>> hosts;
  std::vector<std::int32_t> host_of;  // by rank
  bool operator==(const HostMap&) const = default;
};

}  // namespace weft::comm
