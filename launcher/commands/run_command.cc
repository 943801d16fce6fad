#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>

#include "comm/environment.h"
#include "comm/rendezvous/handshake.h"
#include "launcher/commands/commands.h"
#include "launcher/commands/run_options.h"
#include "launcher/environment/variables.h"
#include "launcher/job/cuda_devices.h"
#include "launcher/job/devices.h"
#include "launcher/job/launch_error.h"
#include "launcher/job/placement.h"
#include "launcher/job/program.h"
#include "launcher/job/report.h"
#include "launcher/job/secret_store.h"
#include "launcher/job/session.h"
#include "launcher/job/supervisor.h"

namespace weft::launcher {
namespace {

std::chrono::milliseconds milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000));
}

Binding binding_of(const RunOptions& options, const Machine& machine, int ranks) {
  if (options.bind == "none") return Binding::none;
  if (options.bind == "core") return Binding::core;
  if (options.bind == "numa") return Binding::numa;
  return automatic_binding(machine, ranks);
}

comm::Secret secret_of(const RunOptions& options) {
  if (!options.secret_file.empty()) return read_secret_file(options.secret_file);
  if (options.num_nodes == 1) return comm::make_secret();
  refuse(kExitUsage,
         "a job of several nodes needs a secret, so that nobody else can join it. Make one with\n"
         "  (umask 077; weft secret > job.secret)\n"
         "copy it to every node, and give --secret-file job.secret on each.");
}

SessionOptions session_options(const RunOptions& options, const Devices& devices) {
  SessionOptions session;
  session.num_nodes = options.num_nodes;
  session.node_rank = options.node_rank;
  session.local_ranks = devices.count;
  session.main_address = options.main_address;
  session.main_port = options.main_port;
  session.secret = secret_of(options);
  session.host = host_name();
  session.settings =
      fmt::format("--accelerator={} --strategy={} --precision={} --transport={}",
                  devices.accelerator, options.strategy, options.precision, options.transport);
  session.rendezvous_timeout = milliseconds(options.rendezvous_timeout_s);
  return session;
}

// What every rank of this node is told of the command line.
Variables given_variables(const RunOptions& options, const Devices& devices) {
  Variables variables{{env::kDevices, devices.text()}};
  const auto set = [&](const char* name, const std::string& value) {
    if (!value.empty()) variables[name] = value;
  };
  if (options.accelerator_given) set(env::kAccelerator, devices.accelerator);
  set(env::kCudaDevices, devices.by_rank());
  set(env::kStrategy, options.strategy);
  set(env::kPrecision, options.precision);
  set(comm::env::kTransport, options.transport);
  set(comm::env::kInterface, options.interface);
  set(comm::env::kAlgorithm, options.algorithm);
  // Absolute: programs change their directory.
  const auto set_directory = [&](const char* name, const std::string& value) {
    if (!value.empty() && value != "off") set(name, std::filesystem::absolute(value).string());
    if (value == "off") set(name, value);
  };
  set_directory(comm::env::kFlightRecorder, options.flight_recorder);
  set_directory(comm::env::kTimeline, options.timeline);
  if (options.tuning == "none") set(comm::env::kTuning, options.tuning);
  if (!options.tuning.empty() && options.tuning != "none") {
    set(comm::env::kTuning, std::filesystem::absolute(options.tuning).string());
  }
  if (isatty(STDOUT_FILENO) == 1 && isatty(STDERR_FILENO) == 1) variables[env::kTerminal] = "1";
  return variables;
}

std::string prefix_of(const RunOptions& options, const std::string& host, int rank) {
  if (options.no_prefix) return {};
  if (options.num_nodes > 1) return fmt::format("[{}:{}] ", host, rank);
  return fmt::format("[rank {}] ", rank);
}

struct Launch {
  explicit Launch(const RunOptions& o) : options(o) {}

  const RunOptions& options;
  Devices devices;
  std::vector<Share> shares;
  RankPlace first;  // place of this node's local rank 0
  JobAddress address;
  std::string host;
  std::string program;
};

SupervisorOptions supervisor_options(const Launch& launch, int secret_fd) {
  const RunOptions& options = launch.options;
  SupervisorOptions supervisor;
  supervisor.host = launch.host;
  supervisor.grace = milliseconds(options.grace_time_s);
  // A single rank keeps our terminal, so that its progress line works.
  supervisor.relay_output = launch.devices.count > 1 || options.num_nodes > 1;
  supervisor.standard_input = options.node_rank == 0 ? StdinFor::first : StdinFor::nobody;
  const auto inherited = current_environment();
  const Variables given = given_variables(options, launch.devices);
  const std::uint64_t descriptors_max = raise_descriptor_limit();
  for (int local = 0; local < launch.devices.count; ++local) {
    const Share& share = launch.shares[static_cast<std::size_t>(local)];
    RankPlace place = launch.first;
    place.rank += local;
    place.local_rank = local;
    Variables variables = place_variables(place, launch.address, secret_fd);
    variables.merge(thread_variables(share.threads, inherited));
    variables.insert(given.begin(), given.end());
    RankStart start;
    start.rank = place.rank;
    start.prefix = prefix_of(options, launch.host, place.rank);
    start.process.path = launch.program;
    start.process.arguments = options.program;
    start.process.environment = changed_environment(inherited, variables);
    start.process.cpus = share.bound_cpus;
    start.process.kept_fd = secret_fd;
    start.process.descriptors_max = descriptors_max;
    supervisor.ranks.push_back(std::move(start));
  }
  return supervisor;
}

int run_ranks(const Launch& launch, Session& session, const comm::Secret& secret) {
  const FileDescriptor secret_fd = secret_in_memory(secret);
  Output output(STDOUT_FILENO, STDERR_FILENO);
  Outcome outcome;
  {
    Supervisor supervisor(supervisor_options(launch, secret_fd.get()), session.control(), output);
    outcome = supervisor.run();
  }
  output.write(Stream::error, failure_report(outcome, launch.host));
  output.drain(std::chrono::seconds(10));
  return session.finish(outcome);
}

std::string placement(const Machine& machine, const Launch& launch) {
  return placement_report(machine, launch.devices, launch.shares, launch.first, launch.address);
}

int run(const CLI::App& app, RunOptions& options) {
  check_run_options(app, options);
  Launch launch(options);
  const char* path = std::getenv("PATH");
  launch.program = find_program(options.program[0], path != nullptr ? path : "/bin:/usr/bin");
  launch.host = host_name();
  const Machine machine = read_machine();
  launch.devices = resolve_devices(options.accelerator, options.devices, machine,
                                   cuda_device_count(), options.share_devices);
  if (options.share_devices && launch.devices.accelerator == "cpu") {
    fmt::print(stderr,
               "weft run: warning: --share-devices is for CUDA devices; ranks on the CPU share its "
               "cores anyway\n");
  }
  launch.shares =
      share_out(machine, launch.devices.count, binding_of(options, machine, launch.devices.count));
  launch.first.local_world_size = launch.first.world_size = launch.devices.count;
  launch.first.node_rank = options.node_rank;
  launch.first.num_nodes = options.num_nodes;
  if (options.dry_run) {
    std::fputs(placement(machine, launch).c_str(), stdout);
    return 0;
  }
  const SessionOptions session_settings = session_options(options, launch.devices);
  const auto session = open_session(session_settings);
  launch.first.rank = session->first_rank();
  launch.first.world_size = session->world_size();
  launch.address = session->address();
  if (!options.quiet) std::fputs(placement(machine, launch).c_str(), stderr);
  return run_ranks(launch, *session, session_settings.secret);
}

}  // namespace

Command add_run_command(CLI::App& root) {
  CLI::App* app = root.add_subcommand("run", "Start PROGRAM as the ranks of a job");
  auto options = std::make_shared<RunOptions>();
  declare_run_options(*app, *options);
  return {app, [app, options] { return run(*app, *options); },
          [app, options](std::vector<std::string>& arguments) {
            take_program(*app, arguments, *options);
          }};
}

}  // namespace weft::launcher
