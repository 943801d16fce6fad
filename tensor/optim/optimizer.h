// Optimizers, fused: one kernel call updates all parameters of a group.
//
// Parameters are given by name, so that state can be saved and found again under any order. A
// parameter without a gradient is passed over, as in PyTorch, and keeps its own count of steps.
// Half-precision parameters are updated through an f32 master copy that the optimizer keeps.
// Parameters are contiguous leaves, f64, f32, f16 or bf16, else InvalidArgument by name.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "tensor/nn/module.h"

namespace weft::optim {

using nn::NamedTensor;
using nn::StateDict;

struct ParameterGroup {
  std::vector<NamedTensor> parameters;
  double learning_rate = 1e-3;
  double weight_decay = 0.0;
};

// nanoGPT's split: matrices and embeddings (two dimensions or more) decay, biases and norms do not.
std::vector<ParameterGroup> decay_groups(const std::vector<NamedTensor>& parameters,
                                         double learning_rate, double weight_decay);

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  // Every gradient is multiplied by `gradient_scale` on its way in (clipping or unscaling without a
  // pass of its own). False where the gate said no: then nothing has changed, counts of steps
  // included.
  bool step(double gradient_scale = 1.0);
  // Asked at the start of every step(), with the gradients still to be touched (a loss scale takes
  // itself out there): false skips the step. Empty: none.
  using Gate = std::function<bool(Optimizer& optimizer)>;
  void set_gate(Gate gate) { gate_ = std::move(gate); }
  void zero_grad();
  double learning_rate() const;         // of the first group
  void set_learning_rate(double rate);  // of every group; InvalidArgument below 0 or not finite
  std::vector<ParameterGroup>& groups() { return groups_; }
  std::vector<Tensor> parameters() const;

  // "<parameter>.exp_avg" and so on, "<parameter>.step"; shared with this optimizer. Learning rates
  // and other settings are not state: they belong to the run's configuration. State that was saved
  // under another precision loads too, after the model: masters go into parameters and come from
  // them.
  StateDict state_dict() const;
  nn::LoadReport load_state_dict(const StateDict& given, const nn::LoadOptions& options = {});
  nn::StateMatch match_state_dict(const StateDict& given, const nn::LoadOptions& options = {});

 protected:
  struct State {
    Tensor parameter;           // as the model sees it
    Tensor master;              // f32, of a half-precision parameter; else undefined
    std::vector<Tensor> slots;  // as slot_names(), of the master's type
    Tensor step;                // i64 scalar: updates so far
    Tensor& updated() { return master.defined() ? master : parameter; }
    std::int64_t& steps() { return *step.data<std::int64_t>(); }
  };
  struct Update {  // a parameter with its gradient, about to be updated
    State* state;
    Tensor gradient;  // contiguous
  };

  Optimizer(std::vector<ParameterGroup> groups, std::vector<std::string_view> slot_names);
  // All of one group and one count of steps (already raised by one), never empty.
  virtual void update(const std::vector<Update>& updates, const ParameterGroup& group,
                      double gradient_scale) = 0;

 private:
  std::vector<ParameterGroup> groups_;
  std::vector<std::string_view> slot_names_;
  std::vector<std::vector<State>> states_;  // as groups_
  Gate gate_;
};

}  // namespace weft::optim
