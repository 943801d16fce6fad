#include "launcher/job/placement.h"

#include <algorithm>
#include <map>
#include <set>

namespace weft::launcher {
namespace {

using Cores = std::vector<const Core*>;

template <class Key>
std::vector<Cores> group_by(const Machine& machine, Key key) {
  std::map<int, Cores> groups;
  for (const auto& core : machine.cores) groups[key(core)].push_back(&core);
  std::vector<Cores> result;
  for (auto& [unused, cores] : groups) result.push_back(std::move(cores));
  return result;
}

std::vector<Cores> cut(const Machine& machine, int ranks) {
  const std::size_t n = static_cast<std::size_t>(ranks);
  std::vector<Cores> runs(n);
  for (std::size_t r = 0; r < n; ++r) {
    const std::size_t begin = r * machine.cores.size() / n;
    const std::size_t end = (r + 1) * machine.cores.size() / n;
    for (std::size_t c = begin; c < end; ++c) runs[r].push_back(&machine.cores[c]);
  }
  return runs;
}

// More ranks than cores: hardware threads, and when those run out too, the same one for several.
std::vector<Share> share_threads(const Machine& machine, int ranks) {
  std::vector<int> cpus;
  for (const auto& core : machine.cores)
    cpus.insert(cpus.end(), core.cpus.begin(), core.cpus.end());
  std::vector<Share> shares(static_cast<std::size_t>(ranks));
  for (std::size_t r = 0; r < shares.size(); ++r) {
    const std::size_t begin = r * cpus.size() / shares.size();
    const std::size_t end = std::max(begin + 1, (r + 1) * cpus.size() / shares.size());
    shares[r].cpus.assign(cpus.begin() + static_cast<std::ptrdiff_t>(begin),
                          cpus.begin() + static_cast<std::ptrdiff_t>(end));
  }
  return shares;
}

std::vector<int> cpus_of_nodes(const Machine& machine, const std::vector<int>& cpus) {
  const std::set<int> own(cpus.begin(), cpus.end());
  std::set<int> nodes;
  for (const auto& core : machine.cores) {
    for (const int cpu : core.cpus) {
      if (own.count(cpu) != 0) nodes.insert(core.numa);
    }
  }
  std::vector<int> all;
  for (const auto& core : machine.cores) {
    if (nodes.count(core.numa) != 0) all.insert(all.end(), core.cpus.begin(), core.cpus.end());
  }
  return all;
}

}  // namespace

int automatic_ranks(const Machine& machine) {
  int ranks = machine.numa_nodes();
  if (ranks == 1) ranks = machine.l3_caches();
  if (ranks == 1) ranks = 2;
  return std::min(ranks, machine.core_budget());
}

Binding automatic_binding(const Machine& machine, int ranks) {
  return ranks <= static_cast<int>(machine.cores.size()) ? Binding::core : Binding::numa;
}

std::vector<Share> share_out(const Machine& machine, int ranks, Binding binding) {
  std::vector<Share> shares;
  if (ranks > static_cast<int>(machine.cores.size())) {
    shares = share_threads(machine, ranks);
  } else {
    std::vector<Cores> groups;
    if (ranks == machine.numa_nodes()) {
      groups = group_by(machine, [](const Core& core) { return core.numa; });
    } else if (ranks == machine.l3_caches()) {
      groups = group_by(machine, [](const Core& core) { return core.l3; });
    } else {
      groups = cut(machine, ranks);
    }
    const int quota = std::max(1, machine.core_budget() / ranks);
    const int shortest = static_cast<int>(machine.cores.size()) / ranks;
    for (const auto& cores : groups) {
      Share share;
      for (const Core* core : cores) {
        share.cpus.insert(share.cpus.end(), core->cpus.begin(), core->cpus.end());
      }
      share.cores = static_cast<int>(cores.size());
      share.threads = std::min({share.cores, std::max(shortest, 1), quota});
      shares.push_back(std::move(share));
    }
  }
  for (auto& share : shares) {
    std::sort(share.cpus.begin(), share.cpus.end());
    if (!machine.is_this_system || binding == Binding::none) continue;
    share.bound_cpus = binding == Binding::core ? share.cpus : cpus_of_nodes(machine, share.cpus);
    std::sort(share.bound_cpus.begin(), share.bound_cpus.end());
  }
  return shares;
}

}  // namespace weft::launcher
