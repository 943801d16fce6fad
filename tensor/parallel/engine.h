// What trains a module on several ranks, whichever way the work and the memory are shared out: Ddp
// and Zero.
#pragma once

#include <chrono>

#include "tensor/checkpoint/shard.h"
#include "tensor/optim/optimizer.h"
#include "tensor/tensor.h"

namespace weft::parallel {

struct EngineTimes {
  // Sum over reductions, from launch to completion; where nobody waits for them, of an earlier step
  // (device_hook.h).
  std::chrono::nanoseconds communication{0};
  std::chrono::nanoseconds exposed{0};  // how long backward() waited for it after the last gradient
};

// What a rank holds of a module and of what trains it.
struct TrainingShards {
  checkpoint::ShardList model;      // parameters and buffers
  checkpoint::ShardList optimizer;  // empty without one
};

// Threading: one thread at a time, the same calls on every rank.
class Engine {
 public:
  Engine() = default;
  virtual ~Engine() = default;
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // loss.backward(), then waits until all gradients are averaged (or, inside no_sync, merely
  // accumulated).
  // InvalidArgument where the loss reaches no parameter of the module.
  void backward(const Tensor& loss, const Tensor& gradient = {});

  // The halves of backward(), for losses that reach several models: begin all, run
  // loss.backward(), finish all. A model that received no gradient at all in between is left alone
  // by finish_backward(). If backward itself threw, cancel_backward().
  virtual void begin_backward() = 0;
  virtual void finish_backward() = 0;
  virtual void cancel_backward() = 0;

  virtual bool synchronises() const = 0;
  virtual void set_synchronises(bool on) = 0;
  // While one is alive gradients only accumulate on this rank; the first backward after it reduces
  // their sum.
  class NoSync {
   public:
    explicit NoSync(Engine& engine) : engine_(engine), previous_(engine.synchronises()) {
      engine_.set_synchronises(false);
    }
    ~NoSync() { engine_.set_synchronises(previous_); }
    NoSync(const NoSync&) = delete;
    NoSync& operator=(const NoSync&) = delete;

   private:
    Engine& engine_;
    bool previous_;
  };

  // Gives every rank rank 0's buffers (running statistics, say).
  virtual void broadcast_buffers() = 0;
  virtual EngineTimes last_times() const = 0;  // of the last finished backward

  // For checkpoints: the module's tensors by name, as ranges of the whole ones; shared with it, so
  // that writing to them loads it. Outside of forward and backward.
  virtual checkpoint::ShardList parameter_shards() const = 0;
  // After something was written into those. Collective: every rank must have been given its part.
  virtual void parameters_changed() = 0;
  // Both together. The optimizer trains parameters of this engine's module. To load: fill these,
  // then parameters_changed().
  TrainingShards training_shards(optim::Optimizer* optimizer,
                                 optim::ShardUse use = optim::ShardUse::save) const;

 private:
  // Called where backward() ran through, before finish_backward(): InvalidArgument, with the
  // backward ended, where it gave this module no gradient at all.
  virtual void require_gradients() = 0;
};

}  // namespace weft::parallel
