// ZeRO: ranks share out what DDP keeps on every one of them (Rajbhandari et al., "ZeRO: Memory
// Optimizations Toward Training Trillion Parameter Models", SC 2020).
//
//   stage | shared out                                  | a rank, P parameters in f32, Adam
//   1     | optimizer state                             | 8P + 8P/N
//   2     | and gradients                               | 4P + 12P/N + live gradients
//   3     | and parameters                              | 16P/N + live units
//
// With halves (or `low`) 4P + 12P/N, 2P + 14P/N and 16P/N.
//
// Parameters are grouped in units (a transformer block, say; zero_layout.h). A unit is one flat
// run, cut into N equal shares in symmetric memory. Each parameter of a module set up here has a
// Part (tensor/part.h), the range of it that lies in this rank's share: optimizers keep state for
// parts and update them, gradients are theirs (parameter.grad() stays undefined).
//
//   Zero zero(model, communicator, {.stage = 3});
//   optim::AdamW optimizer(optim::decay_groups(model.named_parameters(), 1e-3, 0.1));
//   zero.backward(model.forward(x, y).loss);
//   zero.clip_grad_norm(1.0);
//   optimizer.step();       // stages 1 and 2: gathers the parameters again
//
// Stages 2 and 3 reduce-scatter a unit's gradients while backward runs on and free them. Stage 3
// gathers a unit before its module's forward(), and before backward comes to what that recorded,
// one unit ahead, into a few buffers that are used again and again. So parameters are there inside
// forward() alone: elsewhere asking for their elements is InvalidArgument; see Gathered. With
// NoSync gradients accumulate whole on each rank, as in FSDP; without, each backward adds its
// averages to the parts' gradients.
//
// Reductions are in the order of ranks, element by element (`direct`): all stages give the same
// bits, and those of DDP where its all-reduce does so too (always between ranks of one host; else
// with `all_reduce=two_shot`; with two ranks every order is the same).
//
// Frozen parameters are shared out in stage 3; else they, and buffers, stay whole on every rank.
// Models made under nn::DeferredInit come about one parameter at a time, here. With one rank
// nothing is shared out. Threading: one thread at a time. Every rank must build the same model
// (checked: Mismatch) and call alike. Errors: InvalidArgument, naming units and parameters;
// Unsupported on CUDA devices.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "tensor/checkpoint/shard.h"
#include "tensor/nn/module.h"
#include "tensor/optim/optimizer.h"
#include "tensor/parallel/engine.h"

namespace weft::parallel {

struct ZeroOptions {
  int stage = 2;  // 1, 2 or 3
  // Names of the modules whose parameters are a unit each; what is in none of them is one more.
  // Empty: members of module lists, or else direct parts (zero_layout.h).
  std::vector<std::string> units = {};
  // Stage 3: how many units, besides the module's own, may be gathered at a time: the one that
  // computes and those on their way. 1: nothing is fetched ahead.
  int live_units = 2;
  // f16 or bf16, for f32 parameters that are trained: what they are gathered, and their gradients
  // reduced, in. The shares that optimizers update stay f32, and so do averages of f16 gradients,
  // which a loss scale is taken out of. The module gets new parameters: make optimizers afterwards.
  std::optional<DType> low = {};
  // Parameters may take no part in a backward, not the same ones on every rank (in stage 3 units
  // that no forward() uses must be the same ones). Costs one small all-reduce a step. Without it
  // such a parameter is an error that names it.
  bool find_unused_parameters = false;
};

// What this rank holds, as counted.
struct ZeroBytes {
  Bytes parameters;   // stages 1 and 2: whole; 3: shares, of frozen ones, too
  Bytes masters;      // with `low`: shares in f32
  Bytes gradients;    // between steps; stage 1: whole; else shares
  Bytes accumulated;  // whole ones that NoSync has added up, now (stages 2 and 3)
  Bytes accumulated_peak;
  Bytes replicated;     // frozen parameters that are not shared out, and buffers
  Bytes gathered;       // whole units of parameters, now (stage 3)
  Bytes gathered_peak;  // the most at a time since the start
  Bytes in_flight;      // whole units of gradients that fill or are reduced, now (stages 2 and 3)
  Bytes in_flight_peak;
  Bytes reserved;  // the buffers for these two
};

class Zero : public Engine {
 public:
  // Collective: checks that all ranks have the same model, gives every rank rank 0's values and
  // shares them out. The communicator must outlive this; a module of stage 3 is of no use after.
  Zero(nn::Module& module, Communicator& communicator, ZeroOptions options = {});
  ~Zero() override;

  void begin_backward() override;
  void finish_backward() override;
  void cancel_backward() override;
  bool synchronises() const override;
  void set_synchronises(bool on) override;
  void broadcast_buffers() override;
  EngineTimes last_times() const override;

  // The L2 norm of all averaged gradients together. Collective; the same bits on every rank.
  double grad_norm() const;
  // As optim::clip_grad_norm_ and clip_grad_value_. The norm before. Collective.
  double clip_grad_norm(double max_norm, bool error_if_nonfinite = false);
  void clip_grad_value(double clip_value);

  // While one is alive every rank has all parameters whole (stage 3; elsewhere they are, always):
  // to look at them, save or load them. With `write_back` the shares take what is there in the end;
  // write the same on every rank. Collective, outside of forward and backward.
  class Gathered {
   public:
    explicit Gathered(Zero& zero, bool write_back = false);
    ~Gathered();
    Gathered(const Gathered&) = delete;
    Gathered& operator=(const Gathered&) = delete;

   private:
    Zero& zero_;
    bool write_back_;
  };

  // This rank's shares; what is not shared out, whole.
  checkpoint::ShardList parameter_shards() const override;
  void parameters_changed() override;

  ZeroBytes bytes() const;
  // Names, unit by unit; the module's own first.
  std::vector<std::vector<std::string>> unit_layout() const;

  class Impl;

 private:
  void require_gradients() override;
  std::shared_ptr<Impl> impl_;
};

}  // namespace weft::parallel
