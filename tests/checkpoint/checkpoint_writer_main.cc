// A rank that does nothing but save: checkpoint_writer DIRECTORY FIRST_STEP RANKS sync|async.
// It prints "rank R PID", then, on rank 0, "saved N" once step N is on the disk, until it is
// killed. What step N holds is example_state() of N.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "launcher/fabric.h"
#include "tensor/parallel/async_checkpoint.h"
#include "tests/parallel/shards.h"

namespace weft {
namespace {

int write_until_killed(const std::string& directory, int first, const std::string& ranks,
                       bool asynchronous) {
  Fabric fabric({.accelerator = "cpu", .devices = ranks});
  fabric.launch();
  auto& communicator = fabric.communicator();
  fmt::print("rank {} {}\n", fabric.global_rank(), ::getpid());
  std::fflush(stdout);
  fabric.barrier();
  constexpr int kStepsMax = 100'000;
  for (int step = first; step < first + kStepsMax; ++step) {
    const auto layout =
        step % 2 == 0 ? parallel::tests::Layout::flat : parallel::tests::Layout::replicated;
    auto state = parallel::tests::example_state(communicator, layout, DType::f32, step);
    fabric.save_sharded(directory + "/step-" + std::to_string(step), state,
                        {.sharded = true, .asynchronous = asynchronous, .keep_last = 2});
    // The snapshot is taken: what becomes of the tensors is no matter.
    for (auto& part : state.parts) {
      for (auto& shard : part.shards) {
        if (asynchronous && shard.data.defined()) shard.data.fill_(1);
      }
    }
    const int on_disk = asynchronous ? step - 1 : step;
    if (fabric.is_global_zero() && on_disk >= first) {
      fmt::print("saved {}\n", on_disk);
      std::fflush(stdout);
    }
  }
  return 0;
}

}  // namespace
}  // namespace weft

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  try {
    return weft::write_until_killed(argv[1], std::atoi(argv[2]), argv[3],
                                    std::string(argv[4]) == "async");
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
