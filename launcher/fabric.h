// Fabric: one object that makes a training loop of one process one of many. Lightning Fabric's
// nouns and promises, in C++.
//
//   weft::Fabric fabric({.devices = "2"});
//   fabric.launch();      // from here on there are two of us
//   nn::GPT model(config);
//   fabric.setup(model);  // the same values on every rank
//   optim::AdamW optimizer(optim::decay_groups(model.named_parameters(), 1e-3, 0.1));
//   fabric.backward(model.forward(x, y).loss);  // gradients averaged over ranks
//   optimizer.step();
//
// The same program runs plainly (it starts the missing ranks itself), under `weft run`, and as a
// single rank. Threading: one thread. Methods marked collective must be called by every rank in the
// same order. Errors: those of Communicator, and InvalidArgument for misuse, naming the method.
#pragma once

#include <fmt/format.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "comm/communicator.h"
#include "launcher/fabric_options.h"
#include "tensor/amp/autocast.h"
#include "tensor/amp/grad_scaler.h"
#include "tensor/data/loader.h"
#include "tensor/nn/module.h"
#include "tensor/optim/optimizer.h"
#include "tensor/tensor.h"

namespace weft {

namespace parallel {
class AsyncCheckpoint;  // tensor/parallel/async_checkpoint.h
class Engine;           // tensor/parallel/engine.h
struct ShardedState;    // tensor/parallel/checkpoint.h
}  // namespace parallel

struct ClipOptions {  // exactly one of the first two
  std::optional<double> clip_val = {};
  std::optional<double> max_norm = {};
  bool error_if_nonfinite = true;
};

struct BackwardTimes {
  std::chrono::nanoseconds communication{0};  // sum over all reductions
  std::chrono::nanoseconds exposed{0};        // waited for after the last gradient
};

class Fabric {
 public:
  explicit Fabric(FabricOptions options = {});
  ~Fabric();
  Fabric(const Fabric&) = delete;
  Fabric& operator=(const Fabric&) = delete;

  // Joins the job that started this process, or starts the other ranks: each runs this program
  // anew, with its arguments, up to here. Call it once, early, before threads and files are made.
  // Collective.
  void launch();

  int global_rank() const;
  int local_rank() const;
  int node_rank() const;
  int world_size() const;
  bool is_global_zero() const { return global_rank() == 0; }
  Device device() const;  // cuda: known after launch()
  const launcher::FabricSettings& settings() const;
  Communicator& communicator();

  // Converts the module's parameters to the precision's type, moves them to this rank's device, has
  // its forward() cast inputs, run under autocast and give f32 back where the precision is a mixed
  // one (docs/precision.md), gives every rank rank 0's values, and has backward() average its
  // gradients. Under deepspeed and fsdp the ranks share out its state (parallel/zero.h). Make the
  // optimizer afterwards (a conversion makes new parameters, and so do the mixed precisions where
  // ranks share out state), or pass it along where neither is the case: it is checked to train this
  // module's parameters. Collective.
  void setup(nn::Module& module);
  void setup(nn::Module& module, optim::Optimizer& optimizer);
  // Checks that the optimizer trains parameters of modules set up, and, under 16-mixed, has its
  // step() unscale the gradients, be skipped (and give false: but on CUDA, where the device decides
  // and nothing waits for it) on every rank where any overflowed, and adapt the loss scale. Needed
  // there, harmless elsewhere.
  void setup_optimizers(optim::Optimizer& optimizer);

  // This rank's part of the loader's samples (data::DistributedSampler), on its device: call
  // set_epoch() on what it gives, and multiply losses by batch.weight.
  data::DataLoader setup_dataloaders(const data::DataLoader& loader) const;

  // loss.backward(), then gradients of every module set up are averaged over ranks (unless inside
  // no_backward_sync). Collective.
  void backward(const Tensor& loss);
  BackwardTimes last_backward() const;

  // While alive, backward() accumulates on this rank alone. Covers forward and backward of all but
  // the last micro-batch.
  class NoBackwardSync {
   public:
    NoBackwardSync(NoBackwardSync&& other) noexcept : undo_(std::exchange(other.undo_, nullptr)) {}
    NoBackwardSync& operator=(NoBackwardSync&&) = delete;
    ~NoBackwardSync() {
      if (undo_) undo_();
    }

   private:
    friend class Fabric;
    explicit NoBackwardSync(std::function<void()> undo) : undo_(std::move(undo)) {}
    std::function<void()> undo_;
  };
  // What shares out a module set up under deepspeed or fsdp (what this rank holds, whole parameters
  // outside of forward); nullptr under other strategies.
  parallel::Zero* zero(nn::Module& module) const;
  // Under any strategy: what averages the gradients of a module set up, and says what this rank
  // holds of it (Engine::training_shards, for checkpoints of one's own).
  parallel::Engine& engine(nn::Module& module) const;

  [[nodiscard]] NoBackwardSync no_backward_sync(nn::Module& module, bool enabled = true);

  // Clips in place and gives the norm before clipping (0 for clip_val), of all ranks' shares where
  // gradients are shared out (collective there); gradients of a scaled loss are unscaled first.
  // InvalidArgument where the norm is not finite, unless told otherwise; nothing has changed then.
  // Under 16-mixed that is no error: the step will be skipped.
  double clip_gradients(nn::Module& module, const ClipOptions& options);
  // By the norm, which comes as an f64 scalar on the gradients' device: waits for nothing there,
  // for graphs. A norm that is not finite makes gradients NaN or 0.
  Tensor clip_gradients_tensor(nn::Module& module, double max_norm);

  // The precision of a setup module's forward, for the scope: for what is computed outside of one.
  // Mixed precisions alone cast; elsewhere it does nothing.
  class Autocast {
   public:
    explicit Autocast(std::optional<DType> low) {
      if (low) scope_.emplace(*low);
    }

   private:
    std::optional<amp::Autocast> scope_;
  };
  [[nodiscard]] Autocast autocast() const { return Autocast(settings().policy.compute); }
  // The loss scale of 16-mixed; nullptr elsewhere.
  amp::GradScaler* grad_scaler() const;
  // On this rank's device, floating tensors in the precision's type.
  Tensor to_device(const Tensor& tensor) const;

  // --- collectives on tensors; each gives a new tensor, without history.
  Tensor all_reduce(const Tensor& tensor,
                    const std::string& reduce_op = "mean");  // mean or avg, sum, prod, min, max
  double all_reduce(double value, const std::string& reduce_op = "mean");
  Tensor all_gather(const Tensor& tensor);              // (world, ...)
  Tensor broadcast(const Tensor& tensor, int src = 0);  // same shape and dtype on every rank
  void barrier(const std::string& name = {});           // `name` is for the reader

  // --- checkpoints: "name" -> what to save. Collective: rank 0 writes one safetensors file
  // (atomically: the old file stays whole if this fails), then a barrier; or, `sharded`, all ranks
  // write a directory together (docs/checkpoints.md). load() takes either, written by any number of
  // ranks under any strategy and precision, and changes nothing before all ranks have checked
  // everything. The loss scale goes along. A file that somebody else wrote (Hugging Face's of a
  // GPT-2, say) is the part "model".
  struct State {
    std::vector<std::pair<std::string, nn::Module*>> modules;
    std::vector<std::pair<std::string, optim::Optimizer*>> optimizers;
    std::vector<std::pair<std::string, std::string*>> texts;  // small values, as text; rank 0's
    // The same, but of each rank its own (sharded only). A rank that was not there keeps its own.
    std::vector<std::pair<std::string, std::string*>> rank_texts = {};
  };
  struct SaveOptions {
    bool sharded = false;
    // Sharded only: copy, and write while training goes on; one is under way at a time. What goes
    // wrong is thrown by the next save() or wait_for_save(), or told on stderr at the end.
    bool asynchronous = false;
    // Sharded only: the newest directories NAME-N beside `path` that stay, this one included; 0:
    // all.
    int keep_last = 0;
  };
  void save(const std::string& path, const State& state) { save(path, state, SaveOptions()); }
  void save(const std::string& path, const State& state, const SaveOptions& options);
  // The same of shards that the caller has (parallel::training_parts(), say).
  void save_sharded(const std::string& path, const parallel::ShardedState& state,
                    const SaveOptions& options);
  // Until an asynchronous save is on the disk. Collective.
  void wait_for_save();
  void load(const std::string& path, const State& state, bool strict = true);

  // Runs `action` on rank 0; what it throws there is thrown on every rank, so that nobody waits for
  // a step that failed. Collective.
  void on_rank_zero(const std::function<void()>& action);

  // Prints a line on rank 0 of the job.
  template <class... Args>
  void print(fmt::format_string<Args...> format, Args&&... args) const {
    if (is_global_zero()) print_line(fmt::format(format, std::forward<Args>(args)...));
  }

  // Rank 0 (or local rank 0 of every node) goes through the scope first, then everybody else: to
  // fetch or convert data once. Collective.
  class RankZeroFirst {
   public:
    RankZeroFirst(Fabric& fabric, bool first);
    ~RankZeroFirst() noexcept(false);
    RankZeroFirst(const RankZeroFirst&) = delete;
    RankZeroFirst& operator=(const RankZeroFirst&) = delete;

   private:
    Fabric& fabric_;
    bool first_;
    int exceptions_;
  };
  [[nodiscard]] RankZeroFirst rank_zero_first(bool local = false);

  // Seeds this thread's default generator, the same on every rank (or, with per_rank, a different
  // one on each); without a seed WEFT_SEED, then 0. Gives the seed.
  std::uint64_t seed_everything(std::optional<std::uint64_t> seed = {}, bool per_rank = false);

  struct Impl;

 private:
  static void print_line(const std::string& line);
  parallel::Engine* engine_of(const nn::Module& module) const;  // nullptr: not set up
  parallel::ShardedState shards_of(const State& state, optim::ShardUse use) const;
  std::unique_ptr<Impl> impl_;
  std::unique_ptr<parallel::AsyncCheckpoint> async_save_;  // once there was one
};

}  // namespace weft
