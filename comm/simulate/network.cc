#include "comm/simulate/network.h"

#include <algorithm>
#include <numeric>

#include "kernels/base/check.h"

namespace weft::comm::simulate {

std::int32_t Network::ranks() const {
  return std::accumulate(ranks_on_hosts.begin(), ranks_on_hosts.end(), std::int32_t{0});
}

Network default_network(std::int32_t ranks, std::int32_t ranks_per_host) {
  WEFT_ASSERT(ranks >= 1 && ranks_per_host >= 1, "there are ranks, and they are somewhere");
  Network network;
  for (std::int32_t left = ranks; left > 0; left -= ranks_per_host) {
    network.ranks_on_hosts.push_back(std::min(left, ranks_per_host));
  }
  return network;
}

std::shared_ptr<const HostMap> host_map(const Network& network) {
  auto map = std::make_shared<HostMap>();
  std::int32_t rank = 0;
  for (std::int32_t host = 0; host < network.hosts(); ++host) {
    std::vector<std::int32_t>& ranks = map->hosts.emplace_back();
    for (std::int32_t k = 0; k < network.ranks_on_hosts[static_cast<std::size_t>(host)]; ++k) {
      ranks.push_back(rank++);
      map->host_of.push_back(host);
    }
  }
  return map;
}

}  // namespace weft::comm::simulate
