#include "tensor/nn/module.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "kernels/base/check.h"
#include "tensor/autograd/node.h"

namespace weft::nn {

void Module::check_name(const std::string& name) const {
  WEFT_ASSERT(!name.empty(), "a part of a module needs a name");
  for (const auto& slot : slots_) WEFT_ASSERT(slot.name != name, "two parts of one name");
  for (const auto& part : parts_) WEFT_ASSERT(part.first != name, "two parts of one name");
}

void Module::register_parameter(std::string name, Tensor& member) {
  check_name(name);
  if (!member.defined()) return;
  member.set_requires_grad(true);
  slots_.push_back({std::move(name), &member, Kind::parameter});
}

void Module::register_buffer(std::string name, Tensor& member) {
  check_name(name);
  if (member.defined()) slots_.push_back({std::move(name), &member, Kind::buffer});
}

void Module::register_module(std::string name, Module& part) {
  check_name(name);
  WEFT_ASSERT(&part != this, "a module cannot be part of itself");
  parts_.emplace_back(std::move(name), &part);
}

void Module::register_alias(std::string name, Tensor& member) {
  check_name(name);
  WEFT_ASSERT(member.defined(), "an alias needs a parameter");
  slots_.push_back({std::move(name), &member, Kind::alias});
}

void Module::collect(const std::string& prefix, bool aliases, std::vector<Slot>& entries) const {
  for (const auto& slot : slots_) {
    if ((slot.kind == Kind::alias) != aliases) continue;
    entries.push_back({prefix + slot.name, slot.member, slot.kind});
  }
  for (const auto& [name, part] : parts_) part->collect(prefix + name + ".", aliases, entries);
}

std::vector<Module::Slot> Module::entries() const {
  std::vector<Slot> all;
  collect("", false, all);
  collect("", true, all);
  return all;
}

std::vector<NamedTensor> Module::named_parameters() const {
  std::vector<NamedTensor> result;
  std::unordered_set<const void*> seen;
  for (const auto& entry : entries()) {
    if (entry.kind == Kind::buffer || !seen.insert(entry.member->impl()).second) continue;
    result.push_back({entry.name, *entry.member});
  }
  return result;
}

std::vector<Tensor> Module::parameters() const {
  std::vector<Tensor> result;
  for (auto& entry : named_parameters()) result.push_back(std::move(entry.tensor));
  return result;
}

std::vector<NamedTensor> Module::named_buffers() const {
  std::vector<NamedTensor> result;
  for (const auto& entry : entries()) {
    if (entry.kind == Kind::buffer) result.push_back({entry.name, *entry.member});
  }
  return result;
}

std::vector<NamedTensor> Module::named_aliases() const {
  std::vector<NamedTensor> result;
  std::unordered_set<const void*> seen;
  for (const auto& entry : entries()) {
    if (entry.kind == Kind::buffer) continue;
    if (!seen.insert(entry.member->impl()).second) result.push_back({entry.name, *entry.member});
  }
  return result;
}

std::vector<std::pair<std::string, Module*>> Module::named_modules() {
  std::vector<std::pair<std::string, Module*>> result{{"", this}};
  for (const auto& [name, part] : parts_) {
    for (auto& [below, module] : part->named_modules()) {
      result.emplace_back(below.empty() ? name : name + "." + below, module);
    }
  }
  return result;
}

std::int64_t Module::parameter_count() const {
  std::int64_t count = 0;
  for (const auto& parameter : parameters()) count += parameter.numel();
  return count;
}

void Module::train(bool on) {
  training_ = on;
  for (const auto& part : parts_) part.second->train(on);
}

void Module::zero_grad() {
  for (auto& parameter : parameters()) parameter.zero_grad();
}

template <class Convert>
void Module::convert(Convert convert) {
  NoGrad no_grad;
  std::unordered_set<Tensor*> done;                   // a member may have two names
  std::unordered_map<const void*, Tensor> converted;  // and two members may be one tensor
  std::vector<Tensor> kept;                           // so that no address is used again meanwhile
  for (const auto& entry : entries()) {
    if (!done.insert(entry.member).second) continue;
    const Tensor before = *entry.member;
    kept.push_back(before);
    auto& after = converted[before.impl()];
    if (!after.defined()) {
      after = convert(before);
      if (!after.same_as(before)) {
        after = after.detach();
        after.set_requires_grad(before.requires_grad());
      }
    }
    *entry.member = after;
  }
}

Module::Forward::Forward(const Module& module)
    : observer_(module.observer_), policy_(module.policy_ ? &*module.policy_ : nullptr) {
  if (observer_) observer_->begin_forward();
  if (policy_ != nullptr && policy_->compute) autocast_.emplace(*policy_->compute);
}

Module::Forward::~Forward() {
  if (observer_) observer_->end_forward();
}

Tensor Module::Forward::input(const Tensor& x) const {
  if (policy_ == nullptr || !x.defined() || !is_floating(x.dtype())) return x;
  return x.to(policy_->inputs);
}

Tensor Module::Forward::output(const Tensor& y) const {
  if (policy_ == nullptr || !policy_->outputs || !y.defined() || !is_floating(y.dtype())) return y;
  return y.to(*policy_->outputs);
}

Tensor Layer::forward(const Tensor& x) {
  const Forward scope(*this);
  return scope.output(compute(scope.input(x)));
}

void Module::to(DType dtype) {
  if (!is_floating(dtype)) {
    fail<InvalidArgument>("Module::to: parameters cannot become {}; use f64, f32, f16 or bf16",
                          name_of(dtype));
  }
  convert([dtype](const Tensor& from) {
    return is_floating(from.dtype()) && from.dtype() != dtype ? from.to(dtype) : from;
  });
}

void Module::to(Device device) {
  convert(
      [device](const Tensor& from) { return from.device() == device ? from : from.to(device); });
}

StateDict Module::state_dict() const {
  StateDict result;
  std::unordered_set<const void*> seen;
  for (const auto& entry : entries()) {
    if (!seen.insert(entry.member->impl()).second) continue;
    result.push_back({entry.name, entry.member->detach()});
  }
  return result;
}

StateDict Module::adapted(StateDict given, const std::string& source) const {
  adapt_state_dict(given);
  std::unordered_map<const void*, std::string> first_name;
  for (const auto& entry : entries()) {
    const auto [it, is_first] = first_name.emplace(entry.member->impl(), entry.name);
    if (is_first) continue;
    const Tensor* second = find(given, entry.name);
    if (second == nullptr) continue;
    const Tensor* first = find(given, it->second);
    if (first != nullptr && !equal_values(*first, *second)) {
      fail<Mismatch>(
          "{} gives {} and {} different values, but here they are one parameter. Nothing was "
          "loaded; untie them or drop one.",
          source, it->second, entry.name);
    }
    const auto where = std::find_if(given.begin(), given.end(), [&](const NamedTensor& candidate) {
      return candidate.name == entry.name;
    });
    if (first == nullptr) {
      where->name = it->second;
    } else {
      given.erase(where);
    }
  }
  return given;
}

StateMatch Module::match_state_dict(const StateDict& given, const LoadOptions& options) {
  return StateMatch(state_dict(), adapted(given, options.source), options);
}

LoadReport Module::load_state_dict(const StateDict& given, const LoadOptions& options) {
  const auto match = match_state_dict(given, options);
  match.apply();
  return match.report();
}

}  // namespace weft::nn
