#include "launcher/commands/run_options.h"

#include <net/if.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <asio/ip/address.hpp>
#include <map>

#include "comm/algorithms/algorithms.h"
#include "comm/planner.h"
#include "kernels/base/error.h"
#include "launcher/job/launch_error.h"

namespace weft::launcher {
namespace {

using Names = std::vector<std::string>;

const Names kAccelerators = {"auto", "cpu", "gpu", "cuda", "mps", "tpu"};
const Names kStrategies = {"auto",
                           "ddp",
                           "dp",
                           "ddp_find_unused_parameters_true",
                           "fsdp",
                           "fsdp_offload",
                           "deepspeed",
                           "deepspeed_offload",
                           "deepspeed_stage_1",
                           "deepspeed_stage_1_offload",
                           "deepspeed_stage_2",
                           "deepspeed_stage_2_offload",
                           "deepspeed_stage_3",
                           "deepspeed_stage_3_offload"};
const Names kPrecisions = {"16-mixed",  "bf16-mixed", "32-true", "64-true", "16-true",
                           "bf16-true", "64",         "32",      "16",      "bf16"};
const std::map<std::string, std::string> kPrecisionAliases = {
    {"64", "64-true"}, {"32", "32-true"}, {"16", "16-mixed"}, {"bf16", "bf16-mixed"}};

Names algorithm_names() {
  Names names{"auto"};
  for (const auto& algorithm : comm::algorithms()) names.emplace_back(algorithm.name);
  return names;
}

std::string joined(const Names& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

// A validator whose message lists the choices: "--bind: there is no 'x'; choose one of: ...".
CLI::Validator one_of(Names names) {
  CLI::Validator validator;
  validator.operation([names](std::string& value) -> std::string {
    if (std::find(names.begin(), names.end(), value) != names.end()) return {};
    return fmt::format("'{}' is not a choice; choose one of: {}", value, joined(names));
  });
  validator.description("{" + joined(names) + "}");
  return validator;
}

CLI::Validator algorithm_wishes() {
  CLI::Validator validator;
  validator.operation([](std::string& value) -> std::string {
    try {
      comm::parse_wishes(value, "--algorithm");
      return {};
    } catch (const weft::InvalidArgument& error) {
      return error.what();
    }
  });
  return validator;
}

void check_range(const char* option, int value, int low, int high) {
  if (value < low || value > high) {
    refuse(kExitUsage, "{}={}: expected {} to {}", option, value, low, high);
  }
}

std::string interface_names() {
  Names names;
  struct if_nameindex* all = if_nameindex();
  for (auto* it = all; it != nullptr && it->if_index != 0; ++it) names.emplace_back(it->if_name);
  if (all != nullptr) if_freenameindex(all);
  return joined(names);
}

void check_interface(const std::string& interface) {
  if (interface.empty() || if_nametoindex(interface.c_str()) != 0) return;
  asio::error_code error;
  asio::ip::make_address(interface, error);
  if (error) {
    refuse(kExitUsage,
           "--interface={}: neither an address nor an interface of this machine; there are: {}",
           interface, interface_names());
  }
}

void declare_job_options(CLI::App& app, RunOptions& o) {
  app.add_option("--accelerator", o.accelerator, "What to train on")->check(one_of(kAccelerators));
  app.add_option("--strategy", o.strategy, "How ranks share the work (default: auto)")
      ->check(one_of(kStrategies));
  app.add_option("--precision", o.precision, "Numbers to compute with (default: 32-true)")
      ->check(one_of(kPrecisions));
  app.add_option("--devices", o.devices,
                 "Ranks on this node: a count, a list of device indices (0,2), auto, or -1 for all "
                 "devices. auto on CPU: one rank a NUMA node; with one NUMA node, one rank an L3 "
                 "cache; with one of these too, two ranks of half the cores each");
  app.add_flag("--share-devices,--share_devices", o.share_devices,
               "Several ranks may be on one CUDA device: --devices=0,0, or a count beyond the "
               "devices, dealt out in turn");
  app.add_option("--num-nodes,--num_nodes", o.num_nodes, "Nodes of the job");
  app.add_option("--node-rank,--node_rank", o.node_rank, "Which of them this is, from 0");
  app.add_option("--main-address,--main_address", o.main_address,
                 "Name or IP address of node 0, which the nodes meet at");
  app.add_option("--main-port,--main_port", o.main_port, "Port they meet at (several nodes only)");
  app.add_option("--secret-file,--secret_file", o.secret_file,
                 "The job's secret, the same on every node (see weft secret --help)");
  app.add_option("--rendezvous-timeout,--rendezvous_timeout", o.rendezvous_timeout_s,
                 "Seconds to wait for the other nodes");
}

}  // namespace

void declare_run_options(CLI::App& app, RunOptions& o) {
  app.option_defaults()->always_capture_default();
  declare_job_options(app, o);
  app.add_option(
         "--transport", o.transport,
         "What carries the data: auto is shared memory inside a host, tcp between (default: auto)")
      ->check(one_of({"auto", "shm", "tcp"}));
  app.add_option("--interface", o.interface,
                 "Network interface or address for the data (default: the one towards node 0)");
  app.add_option("--algorithm", o.algorithm,
                 "Collective algorithm (default: auto): " + joined(algorithm_names()) +
                     "; or by collective: all_reduce=ring,broadcast=tree")
      ->check(algorithm_wishes());
  app.add_option("--tuning", o.tuning,
                 "What choices are made from: a file of weft tune, or none for what is built in "
                 "(default: your own file, if there is one)");
  app.add_option("--flight-recorder,--flight_recorder", o.flight_recorder,
                 "Directory where ranks dump their last operations on failures and SIGUSR2 (see "
                 "weft trace --help)");
  app.add_option("--timeline", o.timeline, "Directory for timelines of all that ranks do");
  app.add_option("--bind", o.bind,
                 "Where ranks may run: their own cores, the NUMA nodes of these, or anywhere. "
                 "auto: their own cores, or numa where ranks are more than cores")
      ->check(one_of({"auto", "none", "core", "numa"}));
  app.add_option("--grace-time,--grace_time", o.grace_time_s,
                 "Seconds that ranks get to end by themselves before SIGTERM, and then SIGKILL");
  app.add_flag("--no-prefix,--no_prefix", o.no_prefix, "Do not put [rank N] before output lines");
  app.add_flag("--quiet", o.quiet, "Do not show how ranks are placed");
  app.add_flag("--dry-run,--dry_run", o.dry_run, "Show how ranks would be placed, start nothing");
  app.footer(
      "weft run [OPTIONS] PROGRAM [ARGS]...\nEverything after PROGRAM belongs to the program.");
}

void take_program(const CLI::App& app, std::vector<std::string>& arguments, RunOptions& options) {
  std::size_t at = 1;
  std::size_t skipped = 0;
  while (at < arguments.size()) {
    const std::string& argument = arguments[at];
    if (argument == "--") {
      skipped = 1;
      break;
    }
    if (argument.size() < 2 || argument[0] != '-') break;
    const bool has_value = argument.find('=') != std::string::npos;
    const CLI::Option* option = has_value ? nullptr : app.get_option_no_throw(argument);
    at += option != nullptr && option->get_items_expected_max() > 0 ? 2 : 1;
  }
  at = std::min(at, arguments.size());
  const auto cut = arguments.begin() + static_cast<std::ptrdiff_t>(at);
  options.program.assign(cut + static_cast<std::ptrdiff_t>(skipped), arguments.end());
  arguments.erase(cut, arguments.end());
}

void check_run_options(const CLI::App& app, RunOptions& o) {
  o.accelerator_given = app.count("--accelerator") > 0;
  if (o.program.empty()) {
    refuse(kExitUsage, "which PROGRAM? (weft run [OPTIONS] PROGRAM [ARGS]...)");
  }
  if (const auto alias = kPrecisionAliases.find(o.precision); alias != kPrecisionAliases.end()) {
    o.precision = alias->second;
  }
  check_range("--num-nodes", o.num_nodes, 1, 65536);
  if (o.node_rank < 0 || o.node_rank >= o.num_nodes) {
    refuse(kExitUsage, "--node-rank={}: expected 0 to {} (--num-nodes={})", o.node_rank,
           o.num_nodes - 1, o.num_nodes);
  }
  check_range("--main-port", o.main_port, 1, 65535);
  if (o.main_address.empty()) refuse(kExitUsage, "--main-address is empty");
  if (!(o.rendezvous_timeout_s > 0 && o.rendezvous_timeout_s <= 86400)) {
    refuse(kExitUsage, "--rendezvous-timeout={}: expected seconds, above 0 and at most 86400",
           o.rendezvous_timeout_s);
  }
  if (!(o.grace_time_s >= 0 && o.grace_time_s <= 86400)) {
    refuse(kExitUsage, "--grace-time={}: expected seconds, 0 to 86400", o.grace_time_s);
  }
  check_interface(o.interface);
}

}  // namespace weft::launcher
