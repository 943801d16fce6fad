#include "comm/schedule/host_map.h"

#include <algorithm>
#include <utility>

#include "kernels/base/error.h"

namespace weft::comm {

std::int32_t index_in_host(const HostMap& map, std::int32_t rank) {
  const auto at = static_cast<std::size_t>(rank);
  if (at < map.index_of.size()) return map.index_of[at];
  const auto& ranks = map.hosts[static_cast<std::size_t>(map.host_of[at])];
  return static_cast<std::int32_t>(std::find(ranks.begin(), ranks.end(), rank) - ranks.begin());
}

HostSizes host_sizes(const HostMap& map) {
  if (map.smallest > 0) return {map.smallest, map.largest};
  HostSizes sizes{static_cast<std::int32_t>(map.host_of.size()), 0};
  for (const auto& ranks : map.hosts) {
    const auto size = static_cast<std::int32_t>(ranks.size());
    sizes = {std::min(sizes.smallest, size), std::max(sizes.largest, size)};
  }
  return sizes;
}

HostMap host_map_of(std::vector<std::vector<std::int32_t>> hosts) {
  std::size_t world = 0;
  for (const auto& ranks : hosts) world += ranks.size();
  HostMap map;
  map.host_of.assign(world, -1);
  map.index_of.assign(world, -1);
  map.smallest = static_cast<std::int32_t>(world);
  for (std::size_t h = 0; h < hosts.size(); ++h) {
    const auto size = static_cast<std::int32_t>(hosts[h].size());
    if (size == 0) fail<InvalidArgument>("host map: host {} has no ranks; leave it out", h);
    map.smallest = std::min(map.smallest, size);
    map.largest = std::max(map.largest, size);
    for (std::int32_t i = 0; i < size; ++i) {
      const std::int32_t rank = hosts[h][static_cast<std::size_t>(i)];
      if (rank < 0 || static_cast<std::size_t>(rank) >= world) {
        fail<InvalidArgument>(
            "host map: host {} lists rank {}, expected 0 to {}: with {} ranks in "
            "all, one of these is missing",
            h, rank, world - 1, world);
      }
      const auto at = static_cast<std::size_t>(rank);
      if (map.host_of[at] >= 0) {
        fail<InvalidArgument>("host map: rank {} is on host {} and again on host {}", rank,
                              map.host_of[at], h);
      }
      map.host_of[at] = static_cast<std::int32_t>(h);
      map.index_of[at] = i;
    }
  }
  map.hosts = std::move(hosts);
  return map;
}

HostMap host_map_of_group(const HostMap& map, std::span<const int> ranks) {
  std::vector<std::int32_t> renumbered(map.host_of.size(), -1);
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    if (ranks[i] < 0 || static_cast<std::size_t>(ranks[i]) >= renumbered.size()) {
      fail<InvalidArgument>("host map: a group has rank {}, expected 0 to {}", ranks[i],
                            std::ssize(renumbered) - 1);
    }
    renumbered[static_cast<std::size_t>(ranks[i])] = static_cast<std::int32_t>(i);
  }
  std::vector<std::vector<std::int32_t>> hosts;
  for (const auto& members : map.hosts) {
    std::vector<std::int32_t> chosen;
    for (const std::int32_t rank : members) {
      const std::int32_t now = renumbered[static_cast<std::size_t>(rank)];
      if (now >= 0) chosen.push_back(now);
    }
    if (!chosen.empty()) hosts.push_back(std::move(chosen));
  }
  return host_map_of(std::move(hosts));
}

}  // namespace weft::comm
