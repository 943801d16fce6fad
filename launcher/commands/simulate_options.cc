#include "launcher/commands/simulate_options.h"

#include <CLI/CLI.hpp>
#include <vector>

#include "comm/algorithms/algorithms.h"
#include "launcher/commands/commands.h"
#include "launcher/job/launch_error.h"

namespace weft::launcher {

namespace {

constexpr int kRanksMax = 65'536;
constexpr std::uint64_t kBytesMax = std::uint64_t{1} << 40;

std::vector<std::string> collective_names() {
  std::vector<std::string> names;
  for (int i = 0; i < comm::kScheduledCollectives; ++i) {
    names.emplace_back(comm::name_of(static_cast<comm::Collective>(i)));
  }
  return names;
}

std::vector<std::string> algorithm_names() {
  std::vector<std::string> names{"auto"};
  for (const auto& algorithm : comm::algorithms()) names.emplace_back(algorithm.name);
  return names;
}

}  // namespace

comm::Collective SimulateOptions::kind() const {
  for (int i = 0; i < comm::kScheduledCollectives; ++i) {
    const auto candidate = static_cast<comm::Collective>(i);
    if (collective == comm::name_of(candidate)) return candidate;
  }
  return comm::Collective::all_reduce;  // the parser admits only these names
}

void declare_simulate_options(CLI::App& app, SimulateOptions& o) {
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.add_option("collective", o.collective, "What to simulate")
      ->check(CLI::IsMember(collective_names()))
      ->capture_default_str();
  app.add_option("-n,--ranks", o.ranks, "Ranks of the communicator")
      ->check(CLI::Range(1, kRanksMax))
      ->required();
  app.add_option("--ranks-per-host,--ranks_per_host", o.ranks_per_host,
                 "Ranks on each host (default: what the network file says, or 1)")
      ->check(CLI::Range(1, kRanksMax));
  app.add_option("--algorithm", o.algorithm, "auto (as the library would choose), or one by name")
      ->check(CLI::IsMember(algorithm_names()))
      ->capture_default_str();
  app.add_option("-b,--bytes", o.bytes,
                 "Size of the larger of the two buffers, as weft bench counts (8, 64K, 256M ...)")
      ->transform(CLI::AsSizeValue(false));
  app.add_option("--tiles", o.tiles,
                 "Pieces that each message is cut into (default: as the library would choose)")
      ->check(CLI::Range(1, 1 << 16));
  app.add_option("--lanes", o.lanes, "Connections a pair of ranks")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  app.add_option("-r,--root", o.root, "Root of rooted collectives")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--network", o.network_file,
                 "File that describes hosts, links and costs (docs/simulate.md)");
  app.add_option("--json", o.json_file, "Write the result to this file as JSON, too");
  app.add_option("--timeline", o.timeline_file,
                 "Write a trace to this file that Perfetto and chrome://tracing open");
  app.add_option("--timeline-ranks,--timeline_ranks", o.timeline_ranks,
                 "Ranks that the trace shows, from rank 0 on")
      ->check(CLI::Range(1, kRanksMax))
      ->capture_default_str();
}

void check_simulate_options(const SimulateOptions& o) {
  if (o.bytes > kBytesMax) refuse(kExitUsage, "--bytes={}: at most 1T", o.bytes);
  if (o.root >= o.ranks) {
    refuse(kExitUsage, "--root={}: there are only ranks 0..{}", o.root, o.ranks - 1);
  }
}

}  // namespace weft::launcher
