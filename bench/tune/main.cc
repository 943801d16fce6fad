// weft-tune: `weft tune ...` runs this program.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bench/collectives/on_device.h"
#include "bench/tune/measure.h"
#include "bench/tune/options.h"
#include "comm/environment.h"
#include "comm/locality.h"
#include "comm/rendezvous/wire.h"
#include "comm/select/explain.h"
#include "comm/select/tuning_file.h"
#include "comm/tuning_source.h"
#include "kernels/base/error.h"
#include "kernels/cuda/collective.h"
#include "launcher/join.h"

namespace {

using namespace weft;  // NOLINT: a program, not a library

bool is_crowded(int ranks_here) { return ranks_here > std::max(1L, sysconf(_SC_NPROCESSORS_ONLN)); }

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

comm::Medium medium_of(const bench::TuneOptions& options, bool several_hosts) {
  if (options.on_cuda) return comm::Medium::cuda;
  if (several_hosts) return comm::Medium::network;
  return options.transport == "tcp" ? comm::Medium::tcp : comm::Medium::memory;
}

int show(const bench::TuneOptions& options) {
  const char* variable = std::getenv(comm::env::kTuning);
  const std::string wanted =
      options.file.empty() && variable != nullptr ? std::string(variable) : options.file;
  const auto tuning = comm::make_tuning(comm::find_tuning(wanted));
  comm::Problem problem{options.collective, 0, options.ranks, 0};
  const int each = options.ranks_per_host > 0 ? options.ranks_per_host : options.ranks;
  std::vector<std::vector<std::int32_t>> hosts(
      static_cast<std::size_t>((options.ranks + each - 1) / each));
  for (int r = 0; r < options.ranks; ++r) hosts[static_cast<std::size_t>(r / each)].push_back(r);
  const bool several = hosts.size() > 1;
  problem.hosts = std::make_shared<const comm::HostMap>(comm::host_map_of(std::move(hosts)));
  auto medium = medium_of(options, several);
  if (options.on_cuda && (several || each > kernels::cuda::kMembersMax)) {
    // As comm/cuda/join.cc has it.
    medium = several ? comm::Medium::network : comm::Medium::memory;
    fmt::print(
        "# CUDA memory of {} is not shared: collectives on it go through pinned host memory by "
        "tiles of 4 MiB{}. What a tile does there:\n",
        several ? std::string("several hosts")
                : fmt::format("more than {} ranks", kernels::cuda::kMembersMax),
        several ? ", an all_reduce of hosts with equally many ranks between the ranks of one place "
                  "on each, once it is reduced inside the hosts"
                : "");
  }
  const auto told = explain(problem, options.bytes, *tuning, medium, is_crowded(each));
  fmt::print("{} of {} bytes, {} ranks, {} on a host, over {}: {}", name_of(options.collective),
             options.bytes.value, options.ranks, each, name_of(medium), told.choice.algorithm);
  if (told.choice.tiles > 1) fmt::print(" in {} tiles", told.choice.tiles);
  fmt::print("\ntuning: {}\ndecided by {}\n\n  {:<20} {:>14}\n", told.source, told.rule,
             "algorithm", "expected us");
  for (const auto& candidate : told.candidates) {
    fmt::print("  {:<20} {:>14}  {}\n", candidate.algorithm,
               candidate.seconds > 0 ? fmt::format("{:.2f}", candidate.seconds * 1e6) : "-",
               candidate.why);
  }
  return 0;
}

void print(const bench::TuneResult& result, const comm::Tuning& before, comm::Medium medium,
           bool crowded) {
  fmt::print("# {:<16} {:>10} {:>20} {:>12} {:>20} {:>12}\n", "collective", "bytes", "before", "us",
             "after", "us");
  const auto& samples = result.samples;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const auto same = [&](std::size_t k) {
      return samples[k].bytes == samples[i].bytes &&
             samples[k].problem.collective == samples[i].problem.collective;
    };
    if (i > 0 && same(i - 1)) continue;
    const auto time_of = [&](std::string_view name) {
      for (std::size_t k = i; k < samples.size() && same(k); ++k) {
        if (samples[k].algorithm == name && !samples[k].registered) {
          return fmt::format("{:.2f}", samples[k].seconds * 1e6);
        }
      }
      return std::string("-");
    };
    const auto choice = [&](const comm::Tuning& tuning) {
      return comm::choose_over(medium, samples[i].problem, samples[i].bytes, crowded, tuning)
          .algorithm;
    };
    const auto old = choice(before);
    const auto now = choice(result.tuning);
    fmt::print("  {:<16} {:>10} {:>20} {:>12} {:>20} {:>12}\n",
               name_of(samples[i].problem.collective), samples[i].bytes.value, old, time_of(old),
               now, time_of(now));
  }
  fmt::print("# the model is off by {:.0f}% (median; it was {:.0f}%), {:.0f}% at worst\n",
             result.after.median * 100, result.before.median * 100, result.after.worst * 100);
}

int measure(const bench::TuneOptions& options) {
  setenv(comm::env::kTransport, options.transport.c_str(), 0);
  setenv(comm::env::kTuning, "none", 1);
  const std::string path = options.output.empty() ? comm::default_tuning_path() : options.output;
  if (path.empty()) fail<InvalidArgument>("neither HOME nor XDG_CONFIG_HOME is set: --output?");
  launcher::FabricSettings settings;
  settings.devices = std::to_string(options.devices);
  if (options.on_cuda) {
    settings.accelerator = "cuda";
    settings.devices = bench::devices_of(options.devices);
    settings.share_devices = true;
  }
  auto membership = launcher::join(settings);
  Communicator& communicator = membership.communicator;
  if (communicator.size() < 2) fail<InvalidArgument>("one rank has nothing to choose: 2 or more");
  int here = 0;
  for (int r = 0; r < communicator.size(); ++r) {
    here += communicator.host_of(r) == communicator.host_of(communicator.rank()) ? 1 : 0;
  }
  const comm::Medium medium = medium_of(options, here < communicator.size());
  const bool crowded = is_crowded(here);
  std::optional<bench::OnDevice> on_device;
  if (options.on_cuda) {
    on_device.emplace(communicator, membership.device.index);
    if (on_device->calls().cuda.means() != "CUDA IPC") {
      fail<Unsupported>(
          "there is nothing to choose between devices whose memory ranks do not "
          "share: {}",
          on_device->where(communicator));
    }
  }
  const comm::Tuning before = comm::built_in_tuning();
  auto result = bench::tune(options, communicator, medium, crowded, before,
                            on_device ? &on_device->calls() : nullptr);
  if (communicator.rank() != 0) return 0;
  print(result, before, medium, crowded);
  result.tuning.host = comm::this_host();
  result.tuning.date = today();
  result.tuning.cores = static_cast<std::int32_t>(sysconf(_SC_NPROCESSORS_ONLN));
  result.tuning.ranks = communicator.size();
  if (on_device) {
    fmt::print("# flags go beside the data up to {:.0f} bytes of a rank (it was {:.0f})\n",
               result.tuning.cuda_small_bytes, before.cuda_small_bytes);
  }
  comm::write_tuning(result.tuning, path);
  fmt::print("wrote {}\n", path);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const auto options = bench::parse_tune_options(argc, argv);
  try {
    return options.show ? show(options) : measure(options);
  } catch (const Error& error) {
    fmt::print(stderr, "weft tune: {}: {}\n", name_of(error.code()), error.what());
    return error.code() == ErrorCode::invalid_argument ? 2 : 1;
  }
}
