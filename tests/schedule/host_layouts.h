// Worlds of several hosts, as the tests of hierarchical schedules need them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "comm/schedule/host_map.h"
#include "tests/schedule/worlds.h"

namespace weft::comm {

struct HostedWorld {
  std::string name;
  std::shared_ptr<const HostMap> map;  // null: nothing known
  int world = 0;                       // ranks
};

// Hosts of these sizes; `ranks[i]` is the i-th of all places, host by host.
inline HostedWorld layout_of(std::string name, const std::vector<int>& sizes,
                             const std::vector<int>& ranks) {
  std::vector<std::vector<std::int32_t>> hosts;
  auto next = ranks.begin();
  for (const int size : sizes) {
    hosts.emplace_back(next, next + size);
    next += size;
  }
  return {std::move(name), std::make_shared<const HostMap>(host_map_of(std::move(hosts))),
          static_cast<int>(ranks.size())};
}

inline std::vector<int> ranks_in_order(int n) {
  std::vector<int> ranks(static_cast<std::size_t>(n));
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

inline HostedWorld even_layout(int hosts, int each) {
  return layout_of(fmt::format("{} hosts of {}", hosts, each),
                   std::vector<int>(static_cast<std::size_t>(hosts), each),
                   ranks_in_order(hosts * each));
}

// Rank r is on host r modulo the number of hosts.
inline HostedWorld interleaved_layout(int n, int hosts) {
  std::vector<int> sizes;
  std::vector<int> ranks;
  for (int h = 0; h < hosts; ++h) {
    const std::size_t before = ranks.size();
    for (int r = h; r < n; r += hosts) ranks.push_back(r);
    sizes.push_back(static_cast<int>(ranks.size() - before));
  }
  return layout_of(fmt::format("{} ranks dealt to {} hosts", n, hosts), sizes, ranks);
}

inline HostedWorld random_layout(int n, int hosts, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int> sizes(static_cast<std::size_t>(hosts), 1);
  for (int more = hosts; more < n; ++more) ++sizes[random() % sizes.size()];
  std::vector<int> ranks = ranks_in_order(n);
  std::shuffle(ranks.begin(), ranks.end(), random);
  return layout_of(fmt::format("{} ranks on {} hosts at random, seed {}", n, hosts, seed), sizes,
                   ranks);
}

// Layouts of n ranks: even ones, dealt ones, one rank here and all others there, the leftovers of
// an even one on a host of their own, and random ones.
inline std::vector<HostedWorld> layouts_of(int n) {
  std::vector<HostedWorld> all;
  for (int hosts = 2; hosts < n; ++hosts) {
    if (n % hosts == 0) all.push_back(even_layout(hosts, n / hosts));
    if (hosts <= 3 || hosts == n / 2 || hosts == n - 1) {
      all.push_back(interleaved_layout(n, hosts));
    }
  }
  if (n < 3) return all;
  const std::vector<int> order = ranks_in_order(n);
  all.push_back(layout_of(fmt::format("1 and {}", n - 1), {1, n - 1}, order));
  all.push_back(layout_of(fmt::format("{} and 1", n - 1), {n - 1, 1}, order));
  for (const int each : {2, 3, 4, 8}) {
    if (n <= 2 * each || n % each == 0) continue;
    std::vector<int> sizes(static_cast<std::size_t>(n / each), each);
    sizes.push_back(n % each);
    all.push_back(
        layout_of(fmt::format("hosts of {} and one of {}", each, n % each), sizes, order));
  }
  for (std::uint32_t seed = 1; seed <= 3; ++seed) {
    const int hosts = 2 + static_cast<int>(seed * 7) % (n - 2);
    all.push_back(random_layout(n, hosts, seed));
  }
  return all;
}

inline Problem problem_on(const HostedWorld& layout, Collective collective, int rank,
                          int root = 0) {
  return {collective, rank, layout.world, root, layout.map};
}

inline std::vector<Schedule> emit_world(const Algorithm& algorithm, Collective collective,
                                        const HostedWorld& layout, int root,
                                        const Variant& variant = {}) {
  std::vector<Schedule> schedules;
  for (int rank = 0; rank < layout.world; ++rank) {
    schedules.push_back(emit(algorithm, problem_on(layout, collective, rank, root), variant));
  }
  return schedules;
}

}  // namespace weft::comm
