// weft-bench: `weft bench COLLECTIVE ...` runs this program.
#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "bench/collectives/measure.h"
#include "bench/collectives/on_device.h"
#include "bench/collectives/options.h"
#include "bench/collectives/report.h"
#include "bench/output_file.h"
#include "comm/communicator.h"
#include "comm/environment.h"
#include "kernels/base/error.h"
#include "launcher/join.h"
#include "tensor/parallel/agree.h"

namespace {

using namespace weft;  // NOLINT: a program, not a library

constexpr int kExitWrong = 3;  // results were not what they must be

// Runs the table on one rank; rank 0 prints it. Gives the number of wrong elements. `device`: where
// its buffers are to be, if on one.
std::int64_t run_rank(const bench::Options& options, Communicator& communicator, int device) {
  if (options.root >= communicator.size()) {
    fail<InvalidArgument>("-r {}: there are only ranks 0..{}.", options.root,
                          communicator.size() - 1);
  }
  if (!options.json_file.empty()) {  // before the work, not after
    parallel::together(communicator, [&] {
      if (communicator.rank() == 0) bench::require_writable("--json", options.json_file);
    });
  }
  std::optional<bench::OnDevice> on_device;
  if (options.on_cuda) on_device.emplace(communicator, device);
  const std::string where = on_device ? on_device->where(communicator) : "host memory";
  const bool speaks = communicator.rank() == 0;
  if (speaks) bench::print_header(options, communicator, where);
  const auto rows = bench::measure(
      options, communicator, [&](const bench::Row& row) { print_row(options, row); },
      on_device ? &on_device->calls() : nullptr);
  if (speaks) {
    bench::print_footer(rows);
    if (!options.json_file.empty()) bench::write_json(options, communicator, where, rows);
  }
  return bench::total_wrong(rows);
}

std::int64_t run_threads(const bench::Options& options) {
  auto communicators = Communicator::in_process(options.devices);
  std::vector<std::int64_t> wrong(communicators.size());
  std::vector<std::exception_ptr> errors(communicators.size());
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < communicators.size(); ++rank) {
    threads.emplace_back([&, rank] {
      try {
        Communicator mine = std::move(communicators[rank]);
        const int local = static_cast<int>(rank);
        wrong[rank] = run_rank(options, mine, bench::device_of(local));
      } catch (...) {
        errors[rank] = std::current_exception();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (const auto& error : errors) {
    if (error) std::rethrow_exception(error);
  }
  return wrong[0];
}

std::int64_t run_processes(const bench::Options& options) {
  // Inherited by the ranks that join() starts; under weft run, its own choices stand.
  setenv(comm::env::kTransport, options.transport.c_str(), 0);
  setenv(comm::env::kLanes, std::to_string(options.lanes).c_str(), 0);
  if (!options.interface.empty()) setenv(comm::env::kInterface, options.interface.c_str(), 0);
  launcher::FabricSettings settings;
  settings.devices = std::to_string(options.devices);
  if (options.on_cuda) {
    settings.accelerator = "cuda";
    settings.devices = bench::devices_of(options.devices);
    settings.share_devices = true;
  }
  auto membership = launcher::join(settings);
  return run_rank(options, membership.communicator, membership.device.index);
}

}  // namespace

int main(int argc, char** argv) {
  const auto options = bench::parse_options(argc, argv);
  try {
    const auto wrong =
        options.transport == "inproc" ? run_threads(options) : run_processes(options);
    return wrong == 0 ? 0 : kExitWrong;
  } catch (const Error& error) {
    fmt::print(stderr, "weft bench: {}: {}\n", name_of(error.code()), error.what());
    return error.code() == ErrorCode::invalid_argument ? 2 : 1;
  }
}
