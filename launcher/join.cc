#include "launcher/join.h"

#include <charconv>
#include <cstdlib>
#include <string_view>

#include "launcher/environment/detect.h"
#include "launcher/environment/variables.h"
#include "launcher/job/cuda_devices.h"
#include "launcher/job/devices.h"
#include "launcher/job/launch_error.h"
#include "launcher/job/spawn.h"

namespace weft::launcher {
namespace {

// A launcher has started as many ranks as it was told; the code may not want another number.
void check_world(const ClusterEnvironment& environment, const FabricSettings& settings) {
  if (environment.num_nodes > 0 && settings.num_nodes > 1 &&
      settings.num_nodes != environment.num_nodes) {
    fail<InvalidArgument>(
        "Fabric(): num_nodes={} conflicts with the value {} of the job that {} started.",
        settings.num_nodes, environment.num_nodes, environment.name);
  }
}

// The local rank's entry of WEFT_CUDA_DEVICES, which weft run sets.
Device device_of(const FabricSettings& settings, int local_rank) {
  if (settings.accelerator != "cuda") return {};
  const char* const list = std::getenv(env::kCudaDevices);
  std::string_view rest = list != nullptr ? list : "";
  for (int rank = 0; !rest.empty(); ++rank) {
    const auto comma = rest.find(',');
    const auto entry = rest.substr(0, comma);
    int index = 0;
    const auto [end, error] = std::from_chars(entry.data(), entry.data() + entry.size(), index);
    if (error != std::errc() || end != entry.data() + entry.size()) break;
    if (rank == local_rank) return {DeviceType::cuda, index};
    rest.remove_prefix(comma == std::string_view::npos ? rest.size() : comma + 1);
  }
  fail<InvalidArgument>(
      "Fabric::launch(): accelerator cuda, but {}='{}' names no device for local rank {}. Start "
      "the job with weft run --accelerator=cuda",
      env::kCudaDevices, list != nullptr ? list : "", local_rank);
}

Membership join_weft_job(const ClusterEnvironment& environment, const FabricSettings& settings) {
  const auto device = device_of(settings, environment.local_rank);
  return {Communicator::connect(comm::ConnectOptions::from_environment()), environment.local_rank,
          environment.node_rank, device};
}

Membership start_here(const FabricSettings& settings) {
  if (settings.num_nodes > 1) {
    fail<InvalidArgument>(
        "Fabric::launch(): num_nodes={} needs one command on every node: weft run --num-nodes={} "
        "--node-rank=N "
        "--main-address=HOST --secret-file=FILE PROGRAM",
        settings.num_nodes, settings.num_nodes);
  }
  const auto machine = read_machine();
  const auto devices = resolve_devices(settings.accelerator, settings.devices, machine,
                                       cuda_device_count(), settings.share_devices);
  const bool on_cuda = devices.accelerator == "cuda";
  const auto device = on_cuda ? Device{DeviceType::cuda, devices.indices.front()} : Device{};
  if (devices.count == 1) return {Communicator::self(), 0, 0, device};
  SpawnOptions options;
  options.ranks = devices.count;
  if (on_cuda) options.variables[env::kCudaDevices] = devices.by_rank();
  return {Communicator::connect(launch_ranks_from_here(options)), 0, 0, device};
}

}  // namespace

Membership join(const FabricSettings& settings) {
  try {
    const auto environment = detect();
    if (environment.name == "weft") {
      check_world(environment, settings);
      return join_weft_job(environment, settings);
    }
    if (environment.world_size > 1) {
      fail<Unsupported>(
          "Fabric::launch(): this process is rank {} of {} of a job that {} started; this version "
          "of weft joins the jobs of "
          "weft run. Start the program with: weft run --devices={} PROGRAM",
          environment.rank, environment.world_size, environment.name, environment.world_size);
    }
    return start_here(settings);
  } catch (const LaunchError& error) {
    throw InvalidArgument(error.what());
  }
}

}  // namespace weft::launcher
