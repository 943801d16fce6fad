// Optimizers, fused: one kernel call updates all parameters of a group.
//
// Parameters are given by name, so that state can be saved and found again under any order. A
// parameter without a gradient is passed over, as in PyTorch, and keeps its own count of steps.
// Half-precision parameters are updated through an f32 master copy that the optimizer keeps.
// Of a parameter that ranks share out (tensor/part.h) only this rank's part has state and is
// updated.
// Parameters are contiguous leaves, f64, f32, f16 or bf16, else InvalidArgument by name.
//
// On CUDA a step is queued on the current stream and waits for nothing. Counts of steps and
// learning rates are read from device memory, so that a captured graph goes on counting, and
// follows set_learning_rate() between replays (tensor/cuda_graph.h).
#pragma once

#include <functional>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "tensor/checkpoint/shard.h"
#include "tensor/nn/module.h"

namespace weft::optim {

using nn::NamedTensor;
using nn::StateDict;

// What Optimizer::state_shards() are for. On CUDA, parameters share counts of steps, which loading
// must tell apart.
enum class ShardUse : std::uint8_t { save, load };

struct ParameterGroup {
  std::vector<NamedTensor> parameters;
  double learning_rate = 1e-3;
  double weight_decay = 0.0;
};

// nanoGPT's split: matrices and embeddings (two dimensions or more) decay, biases and norms do not.
std::vector<ParameterGroup> decay_groups(const std::vector<NamedTensor>& parameters,
                                         double learning_rate, double weight_decay);

// Scalars in memory of the parameters' CUDA device, read when the step runs there. Undefined: not
// there.
struct DeviceInputs {
  Tensor gradient_scale;  // f64: multiplies every gradient first
  Tensor found_inf;       // i32: where it is not 0 the step changes nothing, counts included
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  // Every gradient is multiplied by `gradient_scale` on its way in (clipping or unscaling without a
  // pass of its own). False where the gate said no: then nothing has changed, counts of steps
  // included.
  bool step(double gradient_scale = 1.0) { return step(gradient_scale, {}); }
  bool step(double gradient_scale, DeviceInputs inputs);
  // Asked at the start of every step(), with the gradients still to be touched (a loss scale takes
  // itself out there): false skips the step. May add to what the step reads on the device. Empty:
  // none.
  using Gate = std::function<bool(Optimizer& optimizer, DeviceInputs& inputs)>;
  void set_gate(Gate gate) { gate_ = std::move(gate); }
  void zero_grad();
  double learning_rate() const;         // of the first group
  void set_learning_rate(double rate);  // of every group; InvalidArgument below 0 or not finite
  std::vector<ParameterGroup>& groups() { return groups_; }
  std::vector<Tensor> parameters() const;

  // "<parameter>.exp_avg" and so on, "<parameter>.step"; shared with this optimizer. Learning rates
  // and other settings are not state: they belong to the run's configuration. State that was saved
  // under another precision loads too, after the model: masters go into parameters and come from
  // them. Unsupported where ranks share out parameters: state_shards() has what this one holds.
  StateDict state_dict() const;
  // The same as ranges of the whole tensors: those of parameters that ranks share out are this
  // rank's parts. Shared with this optimizer; those given for `load` are to be filled.
  checkpoint::ShardList state_shards(ShardUse use = ShardUse::save);
  // Of slots and masters, on this rank.
  Bytes state_bytes();
  nn::LoadReport load_state_dict(const StateDict& given, const nn::LoadOptions& options = {});
  nn::StateMatch match_state_dict(const StateDict& given, const nn::LoadOptions& options = {});

 protected:
  struct State {
    Tensor parameter;           // as the model sees it, or this rank's part of it
    Tensor master;              // f32, of a half-precision parameter; else undefined
    std::vector<Tensor> slots;  // as slot_names(), of the master's type
    // i64 scalar where the parameter lies: updates so far. On CUDA one tensor for all parameters
    // that have been updated together.
    Tensor step;
    Tensor& updated() { return master.defined() ? master : parameter; }
  };
  struct Update {  // a parameter with its gradient, about to be updated
    State* state;
    Tensor gradient;  // contiguous
  };

  struct Batch {  // of one group, device and count of steps; never empty
    std::vector<Update> updates;
    const ParameterGroup* group = nullptr;
    double gradient_scale = 1.0;
    Device device;
    std::int64_t step = 1;  // already raised by one; on CUDA `count` says it
    Tensor count, rate;     // CUDA: scalars i64 and f64 in place of `step` and the group's rate
    DeviceInputs inputs;
  };

  Optimizer(std::vector<ParameterGroup> groups, std::vector<std::string_view> slot_names);
  virtual void update(const Batch& batch) = 0;

 private:
  struct Rate {  // of a group, on a device
    Tensor value;
    double held = 0.0;  // what `value` was last set to
  };
  using Updates = std::vector<std::vector<Update>>;  // as groups_
  void adopt_parts();
  void refuse_parts() const;
  void tell_owners() const;
  void run(const Batch& batch);
  void step_on_cpu(const Updates& updates, double gradient_scale);
  void step_on_cuda(const Updates& updates, Device device, double gradient_scale,
                    const DeviceInputs& inputs);
  std::vector<Tensor> separate_counts(const Updates& updates);
  const Tensor& rate_on(std::size_t group, Device device);
  void share_counts();
  void unshare_counts();

  std::vector<ParameterGroup> groups_;
  std::vector<std::string_view> slot_names_;
  std::vector<std::vector<State>> states_;             // as groups_
  std::map<std::pair<int, std::size_t>, Rate> rates_;  // by device index and group
  bool counts_are_shared_ = false;                     // false: share_counts() has work to do
  Gate gate_;
};

}  // namespace weft::optim
