// weft-bench: `weft bench COLLECTIVE ...` runs this program.
#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "bench/collectives/measure.h"
#include "bench/collectives/options.h"
#include "bench/collectives/report.h"
#include "comm/communicator.h"
#include "comm/cuda_communicator.h"
#include "comm/environment.h"
#include "kernels/base/error.h"
#include "kernels/cuda/runtime.h"
#include "launcher/join.h"

namespace {

using namespace weft;  // NOLINT: a program, not a library
namespace cuda = kernels::cuda;

constexpr int kExitWrong = 3;  // results were not what they must be

// Runs the table on one rank; rank 0 prints it. Gives the number of wrong elements. `device`: where
// its buffers are to be, if on one.
std::int64_t run_rank(const bench::Options& options, Communicator& communicator, int device) {
  if (options.root >= communicator.size()) {
    fail<InvalidArgument>("-r {}: there are only ranks 0..{}.", options.root,
                          communicator.size() - 1);
  }
  std::string where = "host memory";
  std::optional<cuda::DeviceGuard> guard;
  std::optional<cuda::OwnedStream> stream, receiving;
  std::optional<bench::DeviceCalls> calls;
  if (options.on_cuda) {
    CudaCommunicator& on_cuda = communicator.cuda(device);  // says what is wrong with the device
    guard.emplace(device);
    stream.emplace(device);
    receiving.emplace(device);
    calls.emplace(bench::DeviceCalls{on_cuda, stream->get(), receiving->get()});
    where =
        fmt::format("memory of {}, through {}", cuda::device_info(device).name, on_cuda.means());
  }
  const bool speaks = communicator.rank() == 0;
  if (speaks) bench::print_header(options, communicator, where);
  const auto rows = bench::measure(
      options, communicator, [&](const bench::Row& row) { print_row(options, row); },
      calls ? &*calls : nullptr);
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
        const int devices = std::max(cuda::device_count(), 1);
        wrong[rank] = run_rank(options, mine, static_cast<int>(rank) % devices);
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

// All devices in turn, or the first few: "0,1,0,1".
std::string device_list(int ranks) {
  const int devices = std::max(cuda::device_count(), 1);
  std::string list;
  for (int rank = 0; rank < ranks; ++rank) {
    list += fmt::format("{}{}", rank == 0 ? "" : ",", rank % devices);
  }
  return list;
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
    settings.devices = device_list(options.devices);
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
