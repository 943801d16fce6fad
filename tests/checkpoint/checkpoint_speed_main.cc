// How fast all ranks write and read a checkpoint: checkpoint_speed_main DIRECTORY MIB RANKS. To be
// put beside `dd if=/dev/zero of=DIRECTORY/x bs=1M count=MIB conv=fsync`.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>

#include "launcher/fabric.h"
#include "tensor/parallel/checkpoint.h"

namespace weft {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// So that reading is from the disk.
void forget_cache(const fs::path& directory) {
  for (const auto& entry : fs::directory_iterator(directory)) {
    const int fd = ::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC);
    ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    ::close(fd);
  }
}

void measure(const fs::path& directory, std::int64_t mib, const std::string& ranks) {
  Fabric fabric({.accelerator = "cpu", .devices = ranks});
  fabric.launch();
  auto& comm = fabric.communicator();
  constexpr std::int64_t kTensors = 16;
  const auto count = mib * (1 << 18) / kTensors;
  const auto each = count / comm.size();
  parallel::ShardedState state;
  state.parts = {{"model", {}}};
  for (std::int64_t i = 0; i < kTensors; ++i) {
    state.parts[0].shards.push_back({fmt::format("t{}", i),
                                     {each * comm.size()},
                                     Elems(each * comm.rank()),
                                     Tensor::full({each}, static_cast<double>(i))});
  }
  const auto timed = [&](const char* what, const auto& action) {
    fabric.barrier();
    const auto begin = Clock::now();
    action();
    fabric.barrier();
    const std::chrono::duration<double> took = Clock::now() - begin;
    fabric.print("{}: {:.3f} s, {:.0f} MB/s", what, took.count(),
                 static_cast<double>(mib) * 1.048576 / took.count());
  };
  const auto place = directory / "speed-1";
  for (int i = 0; i < 3; ++i) {
    timed("write", [&] { parallel::save_sharded(place, state, comm); });
    if (fabric.is_global_zero()) forget_cache(place);
    timed("read",
          [&] { parallel::load_sharded(parallel::open_verified(place, comm), state.parts, comm); });
  }
  if (fabric.is_global_zero()) fs::remove_all(place);
}

}  // namespace
}  // namespace weft

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  try {
    weft::measure(argv[1], std::atoi(argv[2]), argv[3]);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
  return 0;
}
