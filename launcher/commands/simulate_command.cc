// weft simulate: how long a collective would take on a network that need not exist.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "comm/simulate/simulator.h"
#include "kernels/base/error.h"
#include "launcher/commands/commands.h"
#include "launcher/commands/simulate_options.h"
#include "launcher/commands/simulated_task.h"
#include "launcher/job/launch_error.h"

namespace weft::launcher {
namespace {

namespace simulate = comm::simulate;

void print_result(const ChosenTask& plan, const simulate::Network& network,
                  const simulate::Result& result, double wall_s) {
  const auto& task = plan.task;
  fmt::print("{} by {}, {} bytes, {} ranks on {} hosts, {} tile{}, {} lane{}{}\n",
             comm::name_of(task.collective), task.algorithm, result.bytes.value, network.ranks(),
             network.hosts(), task.tiles, task.tiles == 1 ? "" : "s", task.lanes,
             task.lanes == 1 ? "" : "s", task.fused ? ", fused" : "");
  fmt::print("time            {}\n", time_text(result.seconds));
  fmt::print("algbw           {:.4f} GB/s\n", result.algorithm_gbyte_s);
  fmt::print("busbw           {:.4f} GB/s\n", result.bus_gbyte_s);
  fmt::print("last rank       {}\n", result.last_rank);
  fmt::print("cores busy      {:.1f} % on average, {:.1f} % the busiest\n",
             result.cpu_mean_share * 100, result.cpu_max_share * 100);
  if (!result.busiest.empty()) fmt::print("busiest links   busy      bytes\n");
  for (const auto& use : result.busiest) {
    fmt::print("  {:<14}{:5.1f} %   {}\n", use.name, use.share * 100, use.bytes.value);
  }
  fmt::print("simulated       {} messages in {:.2f} s\n", result.messages, wall_s);
}

nlohmann::json json_of(const ChosenTask& plan, const simulate::Network& network,
                       const simulate::Result& result) {
  nlohmann::json links = nlohmann::json::array();
  for (const auto& use : result.busiest) {
    links.push_back({{"link", use.name}, {"busy_share", use.share}, {"bytes", use.bytes.value}});
  }
  const auto& task = plan.task;
  return {{"collective", comm::name_of(task.collective)},
          {"algorithm", task.algorithm},
          {"ranks", network.ranks()},
          {"hosts", network.hosts()},
          {"root", task.root},
          {"bytes", result.bytes.value},
          {"tiles", task.tiles},
          {"tiles_chosen_by_selector", plan.chosen_tiles},
          {"lanes", task.lanes},
          {"fused", task.fused},
          {"time_us", result.seconds * 1e6},
          {"algbw_gbps", result.algorithm_gbyte_s},
          {"busbw_gbps", result.bus_gbyte_s},
          {"last_rank", result.last_rank},
          {"cpu_mean_share", result.cpu_mean_share},
          {"cpu_max_share", result.cpu_max_share},
          {"messages", result.messages},
          {"busiest_links", links}};
}

int run_simulation(const SimulateOptions& o) {
  check_simulate_options(o);
  check_writable(o.json_file, "--json");
  check_writable(o.timeline_file, "--timeline");
  const auto begin = std::chrono::steady_clock::now();
  const simulate::Network network = network_of(o.network_file, o.ranks, o.ranks_per_host);
  const TaskWish wish{
      o.kind(), Bytes(static_cast<std::int64_t>(o.bytes)), o.algorithm, o.tiles, o.lanes, o.root};
  const ChosenTask plan = choose_task(wish, network);
  if (o.tiles == 0 && plan.task.tiles < plan.chosen_tiles) {
    fmt::print(stderr,
               "weft simulate: {} tiles instead of the {} that the library would choose, to stay "
               "below {} messages; --tiles {} insists\n",
               plan.task.tiles, plan.chosen_tiles, wish.quick_messages, plan.chosen_tiles);
  }
  std::optional<simulate::Timeline> timeline;
  if (!o.timeline_file.empty()) timeline.emplace(o.timeline_ranks);
  const auto result = simulate::run(plan.task, network, timeline ? &*timeline : nullptr);
  const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - begin;
  print_result(plan, network, result, wall.count());
  if (!o.json_file.empty()) write_json(o.json_file, json_of(plan, network, result));
  if (timeline) {
    timeline->write(o.timeline_file, fmt::format("{} by {}, {} ranks", o.collective,
                                                 plan.task.algorithm, network.ranks()));
    if (timeline->truncated()) {
      fmt::print(stderr,
                 "weft simulate: the timeline holds its first {} slices; fewer --timeline-ranks "
                 "reach further\n",
                 timeline->slices());
    }
  }
  return std::fflush(stdout) == 0 ? 0 : 1;
}

}  // namespace

Command add_simulate_command(CLI::App& root) {
  CLI::App* app = root.add_subcommand(
      "simulate", "Say how long a collective would take on a network described in a file");
  const auto options = std::make_shared<SimulateOptions>();
  declare_simulate_options(*app, *options);
  return {app,
          [options] {
            try {
              return run_simulation(*options);
            } catch (const InvalidArgument& error) {
              refuse(kExitUsage, "simulate: {}", error.what());
            } catch (const Unsupported& error) {
              refuse(kExitUsage, "simulate: {}", error.what());
            }
          },
          {}};
}

}  // namespace weft::launcher
