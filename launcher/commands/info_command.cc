#include <fmt/format.h>
#include <hwloc.h>
#include <openssl/crypto.h>

#include <CLI/CLI.hpp>
#include <asio/version.hpp>
#include <cstdio>
#include <set>

#include "comm/algorithms/algorithms.h"
#include "launcher/commands/commands.h"
#include "launcher/commands/cuda_info.h"
#include "launcher/environment/detect.h"
#include "launcher/job/session.h"
#include "launcher/job/topology.h"

#ifndef WEFT_VERSION
#error "the build defines WEFT_VERSION"
#endif

namespace weft::launcher {
namespace {

std::string cpus_where(const Machine& machine, int numa, int l3) {
  std::vector<int> cpus;
  for (const auto& core : machine.cores) {
    if (core.numa == numa && core.l3 == l3) {
      cpus.insert(cpus.end(), core.cpus.begin(), core.cpus.end());
    }
  }
  return format_cpus(cpus);
}

// The part of the tree that placement is decided by.
std::string tree_of(const Machine& machine) {
  std::string text;
  std::set<int> nodes;
  for (const auto& core : machine.cores) nodes.insert(core.numa);
  for (const int node : nodes) {
    text += fmt::format("  NUMA node {}\n", node);
    std::set<int> caches;
    for (const auto& core : machine.cores) {
      if (core.numa == node) caches.insert(core.l3);
    }
    for (const int cache : caches) {
      int cores = 0;
      for (const auto& core : machine.cores) cores += core.numa == node && core.l3 == cache ? 1 : 0;
      text += fmt::format("    L3 cache {}: {} core{}, cpus {}\n", cache, cores,
                          cores == 1 ? "" : "s", cpus_where(machine, node, cache));
    }
  }
  return text;
}

std::string compiler() {
#if defined(__clang__)
  return fmt::format("clang {}", __clang_version__);
#else
  return fmt::format("g++ {}", __VERSION__);
#endif
}

int print_info() {
  const Machine machine = read_machine();
  const ClusterEnvironment environment = detect();
  std::string algorithms;
  for (const auto& algorithm : comm::algorithms()) {
    algorithms += (algorithms.empty() ? "" : ", ") + std::string(algorithm.name);
  }
  fmt::print("{}, built with {}\n", version_text(), compiler());
  fmt::print("libraries: hwloc {}.{}.{}, Asio {}.{}.{}, {}, fmt {}.{}.{}\n",
             hwloc_get_api_version() >> 16, hwloc_get_api_version() >> 8 & 0xffU,
             hwloc_get_api_version() & 0xffU, ASIO_VERSION / 100000, ASIO_VERSION / 100 % 1000,
             ASIO_VERSION % 100, OpenSSL_version(OPENSSL_VERSION), FMT_VERSION / 10000,
             FMT_VERSION / 100 % 100, FMT_VERSION % 100);
  fmt::print("host: {}, started by: {}\n", host_name(), environment.name);
  fmt::print("usable here: {}\n{}", machine.summary(), tree_of(machine));
  fmt::print("CUDA devices: {}\n", cuda_devices_text());
  fmt::print("transports: inproc (threads of one process), shm (processes of one host), tcp\n");
  fmt::print("algorithms: {}\n", algorithms);
  return std::fflush(stdout) == 0 ? 0 : 1;
}

}  // namespace

std::string version_text() { return "weft " WEFT_VERSION; }

Command add_info_command(CLI::App& root) {
  CLI::App* app = root.add_subcommand("info", "Show versions, cores, devices and transports");
  return {app, print_info, {}};
}

}  // namespace weft::launcher
