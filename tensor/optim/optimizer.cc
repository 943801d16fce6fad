#include "tensor/optim/optimizer.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <unordered_set>

#include "kernels/cuda/optimizer.h"
#include "tensor/autograd/node.h"
#include "tensor/part.h"
#include "tensor/stream.h"

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
      const auto device = entry.tensor.device();
      const auto updated = tensor::updated_of(entry.tensor);
      State state{updated, {}, {}, Tensor::zeros({}, {DType::i64, device})};
      if (is_half(updated.dtype())) state.master = updated.to(DType::f32).detach();
      for (std::size_t i = 0; i < slot_names_.size(); ++i) {
        state.slots.push_back(Tensor::zeros(updated.shape(), {state.updated().dtype(), device}));
      }
      states.push_back(std::move(state));
    }
  }
  if (names.empty()) fail<InvalidArgument>("Optimizer: there is no parameter to optimize");
}

bool Optimizer::step(double gradient_scale, DeviceInputs inputs) {
  NoGrad no_grad;
  adopt_parts();
  if (gate_ && !gate_(*this, inputs)) return false;
  std::map<int, Updates> on_cuda;
  Updates on_cpu(groups_.size());
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    for (auto& state : states_[g]) {
      const auto gradient = state.parameter.grad();
      if (!gradient.defined()) continue;
      const auto device = state.parameter.device();
      auto& updates = device.type == DeviceType::cpu
                          ? on_cpu
                          : on_cuda.try_emplace(device.index, groups_.size()).first->second;
      updates[g].push_back({&state, gradient.contiguous()});
    }
  }
  step_on_cpu(on_cpu, gradient_scale);
  if (!on_cuda.empty()) share_counts();
  for (const auto& [index, updates] : on_cuda) {
    step_on_cuda(updates, {DeviceType::cuda, index}, gradient_scale, inputs);
  }
  tell_owners();
  return true;
}

// State that was made before the ranks shared the parameters out: of the part from now on.
void Optimizer::adopt_parts() {
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    for (std::size_t i = 0; i < states_[g].size(); ++i) {
      auto& state = states_[g][i];
      const auto part = tensor::part_of(groups_[g].parameters[i].tensor);
      if (!part || state.parameter.same_as(part->values)) continue;
      NoGrad no_grad;
      const auto cut = [&](Tensor& whole) {
        if (!whole.defined()) return;
        whole = whole.flatten().narrow(0, part->begin, part->values.numel()).clone();
      };
      cut(state.master);
      for (auto& slot : state.slots) cut(slot);
      state.parameter = part->values;
    }
  }
}

void Optimizer::tell_owners() const {
  std::vector<std::shared_ptr<tensor::PartOwner>> told;
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    for (std::size_t i = 0; i < states_[g].size(); ++i) {
      const auto part = tensor::part_of(groups_[g].parameters[i].tensor);
      if (!part || !part->values.grad().defined()) continue;
      auto owner = part->owner.lock();
      if (!owner || std::find(told.begin(), told.end(), owner) != told.end()) continue;
      told.push_back(std::move(owner));
    }
  }
  for (const auto& owner : told) owner->updated();
}

void Optimizer::run(const Batch& batch) {
  update(batch);
  for (const auto& one : batch.updates) one.state->parameter.storage()->mark_written();
}

void Optimizer::step_on_cpu(const Updates& updates, double gradient_scale) {
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    std::map<std::int64_t, std::vector<Update>> by_step;  // one entry, but for unused parameters
    for (const auto& one : updates[g]) {
      by_step[++*one.state->step.data<std::int64_t>()].push_back(one);
    }
    for (auto& [steps, part] : by_step) {
      Batch batch;
      batch.updates = std::move(part);
      batch.group = &groups_[g];
      batch.gradient_scale = gradient_scale;
      batch.step = steps;
      run(batch);
    }
  }
}

void Optimizer::step_on_cuda(const Updates& updates, Device device, double gradient_scale,
                             const DeviceInputs& inputs) {
  const auto counts = separate_counts(updates);
  const tensor::DeviceGuard guard(device);
  const auto stream = tensor::Stream::current(device);
  const auto* found_inf =
      inputs.found_inf.defined() ? inputs.found_inf.data<std::int32_t>() : nullptr;
  for (const auto& count : counts) {
    kernels::cuda::advance_step(count.data<std::int64_t>(), found_inf, stream.handle());
  }
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    for (const auto& count : counts) {
      Batch batch;
      for (const auto& one : updates[g]) {
        if (one.state->step.same_as(count)) batch.updates.push_back(one);
      }
      if (batch.updates.empty()) continue;
      batch.group = &groups_[g];
      batch.gradient_scale = gradient_scale;
      batch.device = device;
      batch.count = count;
      batch.rate = rate_on(g, device);
      batch.inputs = inputs;
      run(batch);
    }
  }
}

// The counts to be raised. Where only some of those that share one are updated, they part.
std::vector<Tensor> Optimizer::separate_counts(const Updates& updates) {
  std::map<const void*, std::int64_t> sharers, updated;
  for (auto& states : states_) {
    for (auto& state : states) ++sharers[state.step.impl()];
  }
  for (const auto& group : updates) {
    for (const auto& one : group) ++updated[one.state->step.impl()];
  }
  std::vector<Tensor> counts;
  std::map<const void*, Tensor> parted;
  for (const auto& group : updates) {
    for (const auto& one : group) {
      auto& count = one.state->step;
      const void* const key = count.impl();
      auto& next = parted[key];
      if (!next.defined()) {
        next = updated[key] == sharers[key] ? count : count.clone();
        counts.push_back(next);
      }
      count = next;
    }
  }
  return counts;
}

const Tensor& Optimizer::rate_on(std::size_t group, Device device) {
  auto& rate = rates_[{device.index, group}];
  const double wanted = groups_[group].learning_rate;
  const bool capturing = tensor::Stream::current(device).is_capturing();
  if (!rate.value.defined()) {
    if (capturing) {
      fail<InvalidArgument>(
          "Optimizer: the first step on {} is being captured into a graph; make one step before "
          "(GraphedStep's warm-up does), so that what the graph reads is there",
          tensor::to_string(device));
    }
    rate.value = Tensor::full({}, wanted, {DType::f64, device});
  } else if (rate.held != wanted && !capturing) {
    rate.value.fill_(wanted);
  }
  if (!capturing) rate.held = wanted;
  return rate.value;
}

// Parameters that have been updated equally often get one count. Reads them, so only once.
void Optimizer::share_counts() {
  if (counts_are_shared_) return;
  std::map<std::pair<int, double>, Tensor> found;
  for (auto& states : states_) {
    for (auto& state : states) {
      if (state.step.device().type == DeviceType::cpu) continue;
      auto& shared = found[{state.step.device().index, state.step.item()}];
      if (!shared.defined()) shared = state.step;
      state.step = shared;
    }
  }
  counts_are_shared_ = true;
}

void Optimizer::unshare_counts() {
  NoGrad no_grad;
  for (auto& states : states_) {
    for (auto& state : states) {
      if (state.step.device().type == DeviceType::cuda) state.step = state.step.clone();
    }
  }
  counts_are_shared_ = false;
}

void Optimizer::zero_grad() {
  for (auto& group : groups_) {
    for (auto& entry : group.parameters) entry.tensor.zero_grad();
  }
}

double Optimizer::learning_rate() const { return groups_.front().learning_rate; }

void Optimizer::set_learning_rate(double rate) {
  check_rate(rate, "the learning rate");
  NoGrad no_grad;
  for (auto& group : groups_) group.learning_rate = rate;
  for (auto& [where, held] : rates_) {
    held.value.fill_(rate);
    held.held = rate;
  }
}

std::vector<Tensor> Optimizer::parameters() const {
  std::vector<Tensor> result;
  for (const auto& group : groups_) {
    for (const auto& entry : group.parameters) result.push_back(entry.tensor);
  }
  return result;
}

StateDict Optimizer::state_dict() const {
  refuse_parts();
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

void Optimizer::refuse_parts() const {
  for (const auto& group : groups_) {
    for (const auto& [name, parameter] : group.parameters) {
      if (!tensor::part_of(parameter)) continue;
      fail<Unsupported>(
          "Optimizer: the ranks share out the state of '{}' and the others (ZeRO), and no rank has "
          "all of it to save or load: use state_shards(), of every rank",
          name);
    }
  }
}

checkpoint::ShardList Optimizer::state_shards(ShardUse use) {
  adopt_parts();
  if (use == ShardUse::load) unshare_counts();
  checkpoint::ShardList shards;
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    for (std::size_t i = 0; i < states_[g].size(); ++i) {
      const auto& [name, parameter] = groups_[g].parameters[i];
      const auto& state = states_[g][i];
      const auto part = tensor::part_of(parameter);
      const Elems begin(part ? part->begin : 0);
      for (std::size_t s = 0; s < slot_names_.size(); ++s) {
        shards.push_back(
            {fmt::format("{}.{}", name, slot_names_[s]), parameter.shape(), begin, state.slots[s]});
      }
      if (state.master.defined()) {
        shards.push_back({name + ".master", parameter.shape(), begin, state.master});
      }
      shards.push_back({name + ".step", {}, Elems(0), state.step});
    }
  }
  return shards;
}

Bytes Optimizer::state_bytes() {
  adopt_parts();
  Bytes total;
  const auto count = [&](const Tensor& tensor) {
    if (tensor.defined()) total += bytes_of(Elems(tensor.numel()), tensor.dtype());
  };
  for (const auto& states : states_) {
    for (const auto& state : states) {
      count(state.master);
      for (const auto& slot : state.slots) count(slot);
    }
  }
  return total;
}

nn::StateMatch Optimizer::match_state_dict(const StateDict& given, const nn::LoadOptions& options) {
  for (const auto& [name, tensor] : given) {
    const bool is_step = name.ends_with(".step") && tensor.numel() == 1;
    if (is_step && tensor.item() < 0) {
      fail<Mismatch>("{}: {} counts updates and cannot be {}. Nothing was loaded.", options.source,
                     name, tensor.item());
    }
  }
  unshare_counts();  // each may become another
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
