#include "tensor/optim/optimizer.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <unordered_set>

#include "tensor/autograd/node.h"

namespace weft::optim {
namespace {

void check_rate(double rate, const char* what) {
  if (!(rate >= 0.0) || !std::isfinite(rate)) {
    fail<InvalidArgument>("Optimizer: {} must be finite and at least 0, not {}", what, rate);
  }
}

void check_parameter(const NamedTensor& entry) {
  const auto& parameter = entry.tensor;
  if (!parameter.defined()) fail<InvalidArgument>("Optimizer: {} is undefined", entry.name);
  if (!parameter.is_leaf() || !parameter.is_contiguous() || !is_floating(parameter.dtype())) {
    fail<InvalidArgument>("Optimizer: {} must be a contiguous floating leaf, found {} {}{}{}",
                          entry.name, name_of(parameter.dtype()),
                          tensor::to_string(parameter.shape()),
                          parameter.is_leaf() ? "" : ", a result of operations",
                          parameter.is_contiguous() ? "" : ", strided");
  }
}

}  // namespace

std::vector<ParameterGroup> decay_groups(const std::vector<NamedTensor>& parameters,
                                         double learning_rate, double weight_decay) {
  ParameterGroup decay{{}, learning_rate, weight_decay}, keep{{}, learning_rate, 0.0};
  for (const auto& entry : parameters) {
    (entry.tensor.dim() >= 2 ? decay : keep).parameters.push_back(entry);
  }
  std::vector<ParameterGroup> groups;
  if (!decay.parameters.empty()) groups.push_back(std::move(decay));
  if (!keep.parameters.empty()) groups.push_back(std::move(keep));
  return groups;
}

Optimizer::Optimizer(std::vector<ParameterGroup> groups, std::vector<std::string_view> slot_names)
    : groups_(std::move(groups)), slot_names_(std::move(slot_names)) {
  NoGrad no_grad;
  std::unordered_set<std::string> names;
  std::unordered_set<const void*> seen;
  for (const auto& group : groups_) {
    check_rate(group.learning_rate, "the learning rate");
    check_rate(group.weight_decay, "weight decay");
    auto& states = states_.emplace_back();
    for (const auto& entry : group.parameters) {
      check_parameter(entry);
      if (!names.insert(entry.name).second || !seen.insert(entry.tensor.impl()).second) {
        fail<InvalidArgument>("Optimizer: parameter {} is given twice", entry.name);
      }
      State state{entry.tensor, {}, {}, Tensor::zeros({}, {DType::i64})};
      const auto device = entry.tensor.device();
      if (is_half(entry.tensor.dtype())) state.master = entry.tensor.to(DType::f32).detach();
      for (std::size_t i = 0; i < slot_names_.size(); ++i) {
        state.slots.push_back(
            Tensor::zeros(entry.tensor.shape(), {state.updated().dtype(), device}));
      }
      states.push_back(std::move(state));
    }
  }
  if (names.empty()) fail<InvalidArgument>("Optimizer: there is no parameter to optimize");
}

bool Optimizer::step(double gradient_scale) {
  NoGrad no_grad;
  if (gate_ && !gate_(*this)) return false;
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    std::map<std::int64_t, std::vector<Update>> by_step;  // one entry, but for unused parameters
    for (auto& state : states_[g]) {
      const auto gradient = state.parameter.grad();
      if (gradient.defined()) by_step[++state.steps()].push_back({&state, gradient.contiguous()});
    }
    for (const auto& [steps, updates] : by_step) {
      update(updates, groups_[g], gradient_scale);
      for (const auto& [state, gradient] : updates) state->parameter.storage()->mark_written();
    }
  }
  return true;
}

void Optimizer::zero_grad() {
  for (auto& group : groups_) {
    for (auto& entry : group.parameters) entry.tensor.zero_grad();
  }
}

double Optimizer::learning_rate() const { return groups_.front().learning_rate; }

void Optimizer::set_learning_rate(double rate) {
  check_rate(rate, "the learning rate");
  for (auto& group : groups_) group.learning_rate = rate;
}

std::vector<Tensor> Optimizer::parameters() const {
  std::vector<Tensor> result;
  for (const auto& group : groups_) {
    for (const auto& entry : group.parameters) result.push_back(entry.tensor);
  }
  return result;
}

StateDict Optimizer::state_dict() const {
  StateDict result;
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    for (std::size_t i = 0; i < states_[g].size(); ++i) {
      const auto& name = groups_[g].parameters[i].name;
      const auto& state = states_[g][i];
      for (std::size_t s = 0; s < slot_names_.size(); ++s) {
        result.push_back({fmt::format("{}.{}", name, slot_names_[s]), state.slots[s]});
      }
      if (state.master.defined()) result.push_back({name + ".master", state.master});
      result.push_back({name + ".step", state.step});
    }
  }
  return result;
}

nn::StateMatch Optimizer::match_state_dict(const StateDict& given, const nn::LoadOptions& options) {
  for (const auto& [name, tensor] : given) {
    const bool is_step = name.ends_with(".step") && tensor.numel() == 1;
    if (is_step && tensor.item() < 0) {
      fail<Mismatch>("{}: {} counts updates and cannot be {}. Nothing was loaded.", options.source,
                     name, tensor.item());
    }
  }
  // Saved under another precision: a master that has no counterpart here is the parameter's own
  // value in full; one that is missing is made from the parameter, whatever was loaded into that.
  StateDict expected = state_dict(), found = given;
  const bool has_masters = std::any_of(given.begin(), given.end(), [](const NamedTensor& entry) {
    return entry.name.ends_with(".master");
  });
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    for (std::size_t i = 0; i < states_[g].size(); ++i) {
      const auto& state = states_[g][i];
      const NamedTensor parameter{groups_[g].parameters[i].name + ".master",
                                  state.parameter.detach()};
      if (has_masters && !state.master.defined()) expected.push_back(parameter);
      if (!has_masters && state.master.defined()) found.push_back(parameter);
    }
  }
  return nn::StateMatch(expected, found, options);
}

nn::LoadReport Optimizer::load_state_dict(const StateDict& given, const nn::LoadOptions& options) {
  const auto match = match_state_dict(given, options);
  match.apply();
  return match.report();
}

}  // namespace weft::optim
