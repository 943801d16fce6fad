// A rank that does nothing but save: checkpoint_writer DIRECTORY FIRST_STEP RANKS sync|async
// example|fsdp. It prints "rank R PID", then, on rank 0, "saved N" once step N is on the disk,
// until it is killed. What step N holds is example_state() of N; or what fsdp has of a GPT and its
// AdamW, every value N.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>

#include "launcher/fabric.h"
#include "tensor/autograd/node.h"
#include "tensor/nn/gpt.h"
#include "tensor/optim/adam.h"
#include "tensor/parallel/async_checkpoint.h"
#include "tensor/parallel/engine.h"
#include "tests/parallel/shards.h"

namespace weft {
namespace {

void fill(const parallel::ShardList& shards, double value) {
  const NoGrad no_grad;
  for (const auto& shard : shards) {
    if (shard.data.defined()) shard.data.detach().fill_(value);
  }
}

parallel::ShardedState example(Fabric& fabric, int step) {
  using parallel::tests::Layout;
  return parallel::tests::example_state(
      fabric.communicator(), step % 2 == 0 ? Layout::flat : Layout::replicated, DType::f32, step);
}

// Trained by fsdp: this rank has shares of all.
class Sharing {
 public:
  explicit Sharing(Fabric& fabric)
      : fabric_(fabric),
        model_({.block_size = 64, .vocab_size = 201, .n_layer = 2, .n_head = 4, .n_embd = 64}) {
    fabric.setup(model_);
    optimizer_.emplace(optim::decay_groups(model_.named_parameters(), 1e-2, 0.1));
  }
  parallel::ShardedState state(int step) {
    const auto shards = fabric_.engine(model_).training_shards(&*optimizer_);
    fill(shards.model, step);
    fill(shards.optimizer, step);
    return {.parts = {{"model", shards.model}, {"optimizer", shards.optimizer}}};
  }

 private:
  Fabric& fabric_;
  nn::GPT model_;
  std::optional<optim::AdamW> optimizer_;
};

struct Arguments {
  std::string directory;
  int first;
  std::string ranks;
  bool asynchronous, shares;
};

int write_until_killed(const Arguments& a) {
  Fabric fabric({.accelerator = "cpu", .strategy = a.shares ? "fsdp" : "ddp", .devices = a.ranks});
  fabric.launch();
  std::optional<Sharing> sharing;
  if (a.shares) sharing.emplace(fabric);
  fmt::print("rank {} {}\n", fabric.global_rank(), ::getpid());
  std::fflush(stdout);
  fabric.barrier();
  constexpr int kStepsMax = 100'000;
  const auto [first, asynchronous] = std::pair(a.first, a.asynchronous);
  for (int step = first; step < first + kStepsMax; ++step) {
    const auto state = sharing ? sharing->state(step) : example(fabric, step);
    fabric.save_sharded(a.directory + "/step-" + std::to_string(step), state,
                        {.sharded = true, .asynchronous = asynchronous, .keep_last = 2});
    // The snapshot is taken: what becomes of the tensors is no matter.
    for (const auto& part : state.parts) {
      if (asynchronous) fill(part.shards, 1);
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
  if (argc != 6) return 2;
  try {
    return weft::write_until_killed({argv[1], std::atoi(argv[2]), argv[3],
                                     std::string(argv[4]) == "async",
                                     std::string(argv[5]) == "fsdp"});
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
