// How the ranks of this node share its cores. Pure.
#pragma once

#include <string>
#include <vector>

#include "launcher/job/topology.h"

namespace weft::launcher {

enum class Binding { none, core, numa };

struct Share {
  std::vector<int> cpus;        // the hardware threads of its cores
  std::vector<int> bound_cpus;  // what it may run on; empty: anything
  int cores = 1;
  int threads = 1;  // what its thread pool should have
};

// What --devices=auto means on CPU: one rank a NUMA node; where there is one NUMA node, one rank an
// L3 cache; where there is one of these too, two ranks of half the cores each (one rank on a single
// core). Never more ranks than the CPU quota grants CPUs.
int automatic_ranks(const Machine& machine);

// Own cores, as long as there is one for each rank: two ranks that the system wakes on one core
// talk at a tenth of the speed. More ranks than cores are left to the system within their NUMA
// nodes.
Binding automatic_binding(const Machine& machine, int ranks);

// The shares of `ranks` ranks. When they are as many as NUMA nodes or L3 caches, each gets one;
// otherwise the cores are cut into contiguous runs whose lengths differ by at most one, and every
// rank gets as many threads as the shortest has. More ranks than cores share hardware threads.
std::vector<Share> share_out(const Machine& machine, int ranks, Binding binding);

}  // namespace weft::launcher
