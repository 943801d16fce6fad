#include "launcher/commands/simulated_task.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "comm/algorithms/algorithms.h"
#include "comm/select/select.h"
#include "comm/simulate/program.h"
#include "kernels/base/error.h"
#include "launcher/commands/commands.h"
#include "launcher/job/launch_error.h"

namespace weft::launcher {

namespace simulate = comm::simulate;

ChosenTask choose_task(const TaskWish& wish, const simulate::Network& network) {
  comm::Problem problem;
  problem.collective = wish.collective;
  problem.world_size = network.ranks();
  problem.root = comm::is_rooted(problem.collective) ? wish.root : 0;
  problem.hosts = simulate::host_map(network);
  const comm::Choice choice =
      wish.algorithm == "auto"
          ? comm::choose(problem, wish.bytes, wish.lanes)
          : comm::choose_tiles(wish.algorithm, problem, wish.bytes, wish.lanes);
  ChosenTask chosen;
  chosen.task = {problem.collective, problem.root, choice.algorithm, choice.tiles,
                 wish.lanes,         choice.fused, wish.bytes};
  chosen.chosen_tiles = choice.tiles;
  if (wish.tiles > 0) {
    chosen.task.tiles = wish.tiles;
    return chosen;
  }
  const comm::Algorithm* algorithm = comm::find_algorithm(choice.algorithm);
  if (choice.tiles > 1 && algorithm != nullptr && algorithm->supports(problem)) {
    const std::int64_t untiled = simulate::count_messages(*algorithm, problem);
    const std::int64_t quick = wish.quick_messages / std::max<std::int64_t>(1, untiled);
    chosen.task.tiles = static_cast<int>(std::clamp<std::int64_t>(quick, 1, choice.tiles));
  }
  return chosen;
}

simulate::Network network_of(const std::string& file, int ranks, int ranks_per_host) {
  if (file.empty()) return simulate::default_network(ranks, std::max(1, ranks_per_host));
  try {
    return simulate::read_network(file, ranks, ranks_per_host);
  } catch (const IoError& error) {
    refuse(kExitUsage, "--network: {}", error.what());
  }
}

std::string time_text(double seconds) {
  if (seconds < 1e-3) return fmt::format("{:.2f} us", seconds * 1e6);
  if (seconds < 1) return fmt::format("{:.3f} ms", seconds * 1e3);
  return fmt::format("{:.3f} s", seconds);
}

void check_writable(const std::string& path, const char* option) {
  if (path.empty()) return;
  const bool was_there = ::access(path.c_str(), F_OK) == 0;
  std::FILE* file = std::fopen(path.c_str(), "ab");
  if (file == nullptr)
    fail<IoError>("{}={}: cannot write there; does its folder exist?", option, path);
  std::fclose(file);
  if (!was_there) ::unlink(path.c_str());
}

void write_json(const std::string& path, const nlohmann::json& document) {
  std::ofstream file(path);
  file << document.dump(2) << '\n';
  file.close();
  if (!file) fail<IoError>("cannot write the result to {}: does its folder exist?", path);
}

}  // namespace weft::launcher
