// What `weft simulate` was told, checked as far as the command line alone allows.
#pragma once

#include <cstdint>
#include <string>

#include "comm/schedule/schedule.h"
#include "kernels/base/units.h"

namespace CLI {
class App;
}

namespace weft::launcher {

struct SimulateOptions {
  std::string collective = "all_reduce";
  int ranks = 2;
  int ranks_per_host = 0;  // 0: as the network file says, or 1
  std::string algorithm = "auto";
  std::uint64_t bytes = std::uint64_t{32} << 20;
  int tiles = 0;  // 0: as the selector would choose
  int lanes = 1;
  int root = 0;
  std::string network_file;
  std::string json_file;
  std::string timeline_file;
  int timeline_ranks = 64;

  comm::Collective kind() const;
};

void declare_simulate_options(CLI::App& app, SimulateOptions& options);

// After parsing: what must go together. Throws LaunchError (exit code 2).
void check_simulate_options(const SimulateOptions& options);

}  // namespace weft::launcher
