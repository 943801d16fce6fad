#include "tensor/amp/grad_scaler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cuda/multi_tensor.h"
#include "kernels/optimizer.h"
#include "tensor/autograd/node.h"
#include "tensor/by_device.h"
#include "tensor/ops/basic.h"
#include "tensor/optim/clip.h"
#include "tensor/part.h"

namespace weft::tensor::amp {
namespace {

constexpr std::size_t kNamesShown = 8;

using Flat = std::vector<kernels::FlatTensor>;

// Contiguous gradients of each device; a strided one is replaced by its contiguous copy first.
std::vector<std::pair<Device, Flat>> gradients_of(optim::Optimizer& optimizer) {
  std::vector<std::pair<Device, Flat>> gradients;
  for (auto& group : optimizer.groups()) {
    for (const auto& entry : group.parameters) {
      auto parameter = updated_of(entry.tensor);
      auto gradient = parameter.grad();
      if (!gradient.defined()) continue;
      if (!gradient.is_contiguous()) {
        parameter.set_grad(gradient.contiguous());
        gradient = parameter.grad();
      }
      const auto device = gradient.device();
      auto part = std::find_if(gradients.begin(), gradients.end(),
                               [&](const auto& known) { return known.first == device; });
      if (part == gradients.end()) part = gradients.insert(part, {device, {}});
      part->second.push_back({gradient.data(), Elems(gradient.numel()), gradient.dtype()});
    }
  }
  return gradients;
}

// Divides by `scale`; whether anything was not finite. On CUDA that is read from the device.
bool unscale_and_check(Device device, const Flat& gradients, double scale) {
  if (device.type == DeviceType::cpu) return kernels::unscale_and_check(gradients, scale);
  const auto found_inf = Tensor::zeros({}, {DType::i32, device});
  {
    const DeviceGuard guard(device);
    kernels::cuda::unscale_and_check(gradients, scale, found_inf.data<std::int32_t>(),
                                     Stream::current(device).handle());
  }
  return found_inf.item() != 0.0;
}

std::vector<std::string> overflowed_parameters(optim::Optimizer& optimizer) {
  std::vector<std::string> names;
  for (const auto& group : optimizer.groups()) {
    for (const auto& [name, parameter] : group.parameters) {
      const auto updated = updated_of(parameter);
      if (!std::isfinite(optim::grad_norm({&updated, 1}))) names.push_back(name);
    }
  }
  return names;
}

void require(bool good, const char* what, double found) {
  if (!good) fail<InvalidArgument>("GradScaler: {}, not {}", what, found);
}

bool is_scale(double value) { return is_valid({.scale = value}); }

std::int32_t clamped(std::int64_t count) {
  return static_cast<std::int32_t>(
      std::min<std::int64_t>(count, std::numeric_limits<std::int32_t>::max()));
}

kernels::LossScale for_device(const GradScalerState& state) {
  kernels::LossScale value;
  value.scale = static_cast<float>(state.scale);
  value.clean_steps = clamped(state.clean_updates);
  value.skipped = clamped(state.skipped_updates);
  return value;
}

GradScalerState from_device(const kernels::LossScale& value) {
  return {static_cast<double>(value.scale), value.clean_steps, value.skipped};
}

}  // namespace

GradScaler::GradScaler(GradScalerOptions options) : options_(options) {
  require(is_scale(options.minimum_scale), "the minimum scale is a positive f32",
          options.minimum_scale);
  require(is_scale(options.initial_scale) && options.initial_scale >= options.minimum_scale,
          "the initial scale is an f32, and at least the minimum", options.initial_scale);
  require(options.growth_factor > 1.0 && std::isfinite(options.growth_factor),
          "the growth factor is above 1", options.growth_factor);
  require(options.backoff_factor > 0.0 && options.backoff_factor < 1.0,
          "the backoff factor is between 0 and 1", options.backoff_factor);
  require(options.growth_interval >= 1, "the growth interval is at least 1",
          static_cast<double>(options.growth_interval));
  state_.scale = options.initial_scale;
}

// The state goes to the first device that it is asked for on, unless the host has to decide.
void GradScaler::place(Device device) {
  if (on_device_ ? on_device_->device() == device : device.type == DeviceType::cpu) return;
  if (on_device_) return come_home();
  if (verdict_ || stays_on_the_host_ || !records_.empty()) return;
  const kernels::LossScaleParams params{options_.growth_factor, options_.backoff_factor,
                                        clamped(options_.growth_interval), options_.minimum_scale};
  on_device_.emplace(device, for_device(state_), params);
  ++generation_;
  lost_seen_ = 0;
}

void GradScaler::place(const optim::Optimizer& optimizer) {
  for (const auto& parameter : optimizer.parameters()) place(updated_of(parameter).device());
}

// What is on the device is read, and the host decides from now on.
void GradScaler::come_home() {
  if (!on_device_) return;
  state_ = from_device(on_device_->read());
  for (auto& [optimizer, record] : records_) {
    const auto carried = record.on_device.read();
    record.carried = record.unscaled ? 1.0 : static_cast<double>(carried.scale);
    record.overflowed = carried.found_inf != 0;
  }
  on_device_.reset();
  stays_on_the_host_ = true;
}

void GradScaler::set_verdict(Verdict verdict, Names names) {
  if (verdict) come_home();
  verdict_ = std::move(verdict);
  names_ = std::move(names);
}

GradScalerState GradScaler::state() const {
  return on_device_ ? from_device(on_device_->read()) : state_;
}

Tensor GradScaler::scaled(const Tensor& loss) {
  if (!loss.defined()) fail<InvalidArgument>("GradScaler::scaled: the loss is undefined");
  place(loss.device());
  const auto wide = is_half(loss.dtype()) ? loss.to(DType::f32) : loss;
  if (!on_device_) return ops::mul(wide, state_.scale);
  return ops::mul(wide, on_device_->scale().to(wide.dtype()));
}

GradScaler::Record& GradScaler::record_of(optim::Optimizer& optimizer) {
  const auto [found, fresh] = records_.try_emplace(&optimizer);
  if (fresh) {
    found->second.optimizer = &optimizer;
    if (on_device_) {
      found->second.on_device = on_device_->carry();
      found->second.generation = generation_;
    } else {
      found->second.carried = state_.scale;
    }
  }
  return found->second;
}

// What a captured step does must not depend on what the steps before it were.
void GradScaler::carry_present_scale(optim::Optimizer& optimizer, Record& record) {
  if (!on_device_) {
    if (record.carried == state_.scale) return;
    const double factor = state_.scale / record.carried;
    for (const auto& part : gradients_of(optimizer)) {
      WEFT_BY_DEVICE(part.first, scale, part.second, factor);
    }
    return;
  }
  const bool same = !record.unscaled && record.generation == generation_;
  if (same && !on_device_->is_capturing()) return;
  const auto factor = on_device_->carry_again(record.on_device, record.unscaled);
  const DeviceGuard guard(on_device_->device());
  for (const auto& part : gradients_of(optimizer)) {
    kernels::cuda::scale(part.second, factor.data<double>(),
                         Stream::current(on_device_->device()).handle());
  }
}

void GradScaler::prepare(optim::Optimizer& optimizer) {
  const NoGrad no_grad;
  place(optimizer);
  auto& record = record_of(optimizer);
  carry_present_scale(optimizer, record);
  record = Record{.optimizer = &optimizer,
                  .carried = state_.scale,
                  .prepared = true,
                  .overflowed_names = {},
                  .on_device = record.on_device,
                  .generation = generation_};
}

bool GradScaler::found_on_host(optim::Optimizer& optimizer, Record& record) {
  bool found = false;
  for (const auto& [device, gradients] : gradients_of(optimizer)) {
    found |= unscale_and_check(device, gradients, record.carried);
  }
  record.carried = 1.0;
  if (verdict_) found = verdict_(found);
  if (found && state_.scale <= options_.minimum_scale) {
    record.overflowed_names = overflowed_parameters(optimizer);
    if (names_) record.overflowed_names = names_(record.overflowed_names);
  }
  return found;
}

void GradScaler::unscale(optim::Optimizer& optimizer) {
  const NoGrad no_grad;
  place(optimizer);
  auto& record = record_of(optimizer);
  if (record.unscaled) {
    fail<InvalidArgument>(
        "GradScaler::unscale: these gradients were unscaled already; once between backward() and "
        "step() is enough (step() does it where nobody did)");
  }
  if (on_device_) {
    const DeviceGuard guard(on_device_->device());
    for (const auto& part : gradients_of(optimizer)) {
      kernels::cuda::unscale_and_check(part.second, record.on_device.state(),
                                       Stream::current(on_device_->device()).handle());
    }
    record.unscaled = true;
    return;
  }
  record.overflowed = found_on_host(optimizer, record);
  record.unscaled = true;
}

bool GradScaler::is_unscaled(const optim::Optimizer& optimizer) const {
  const auto found = records_.find(&optimizer);
  return found != records_.end() && found->second.unscaled;
}

bool GradScaler::admit(optim::Optimizer& optimizer, optim::DeviceInputs* inputs) {
  place(optimizer);
  if (record_of(optimizer).admitted) {
    fail<InvalidArgument>(
        "GradScaler::step: this optimizer has stepped already since the last update(); call "
        "update() once all optimizers have stepped");
  }
  if (!record_of(optimizer).unscaled) unscale(optimizer);
  auto& record = record_of(optimizer);
  if (on_device_ && inputs != nullptr) {
    if (inputs->found_inf.defined()) {
      fail<InvalidArgument>(
          "GradScaler::admit: the step has a found_inf of its own already; leave that to the loss "
          "scale");
    }
    inputs->found_inf = record.on_device.found_inf();
  }
  record.admitted = true;
  if (!on_device_) return !record.overflowed;
  return inputs != nullptr || record.on_device.read().found_inf == 0;
}

bool GradScaler::step(optim::Optimizer& optimizer) {
  optim::DeviceInputs inputs;
  if (!admit(optimizer, &inputs)) return false;
  return optimizer.step(1.0, inputs);
}

// Records whose optimizers have stepped. Others keep what their gradients carry.
std::vector<GradScaler::Record> GradScaler::take_admitted() {
  std::vector<Record> admitted;
  for (auto it = records_.begin(); it != records_.end();) {
    if (!it->second.admitted) {
      ++it;
      continue;
    }
    admitted.push_back(it->second);
    if (it->second.prepared) {
      it++->second.admitted = false;  // unscaled they stay, whatever is stepped without a backward
    } else {
      it = records_.erase(it);
    }
  }
  return admitted;
}

void GradScaler::update() {
  const auto admitted = take_admitted();
  if (admitted.empty()) {
    fail<InvalidArgument>("GradScaler::update: no optimizer has stepped since the last update()");
  }
  if (on_device_) return update_on_device(admitted);
  update_on_host(admitted);
}

void GradScaler::update_on_host(const std::vector<Record>& admitted) {
  bool overflowed = false;
  std::vector<std::string> names;
  for (const auto& record : admitted) {
    overflowed = overflowed || record.overflowed;
    names.insert(names.end(), record.overflowed_names.begin(), record.overflowed_names.end());
  }
  if (overflowed) {
    ++state_.skipped_updates;
    state_.clean_updates = 0;
    if (state_.scale <= options_.minimum_scale) give_up(names, "parameters of another rank");
    state_.scale = std::max(state_.scale * options_.backoff_factor, options_.minimum_scale);
  } else if (++state_.clean_updates >= options_.growth_interval) {
    state_.clean_updates = 0;
    const double larger = state_.scale * options_.growth_factor;
    if (is_scale(larger)) state_.scale = larger;
  }
}

void GradScaler::update_on_device(const std::vector<Record>& admitted) {
  for (const auto& record : admitted) on_device_->merge(record.on_device);
  ++generation_;
  const auto lost = on_device_->update();
  if (lost == lost_seen_) return;
  lost_seen_ = lost;
  std::vector<std::string> names;
  for (const auto& record : admitted) {
    for (auto& name : overflowed_parameters(*record.optimizer)) names.push_back(std::move(name));
  }
  give_up(names, "parameters whose gradients are finite again");
}

void GradScaler::check(optim::Optimizer& optimizer) {
  if (!on_device_) return;  // update() has thrown it
  const auto lost = on_device_->read().lost;
  if (lost == lost_seen_) return;
  lost_seen_ = lost;
  give_up(overflowed_parameters(optimizer), "parameters whose gradients are finite again");
}

void GradScaler::give_up(const std::vector<std::string>& names, const char* otherwise) const {
  std::string list;
  for (std::size_t i = 0; i < std::min(names.size(), kNamesShown); ++i) {
    list += (i == 0 ? "" : ", ") + names[i];
  }
  if (names.size() > kNamesShown) list += fmt::format(" and {} more", names.size() - kNamesShown);
  if (names.empty()) list = otherwise;
  fail<NotFinite>(
      "GradScaler: gradients are not finite although the loss scale is at its smallest, {}: those "
      "of {}. The model or its inputs produce infinities themselves: lower the learning rate, look "
      "for bad samples, or use bf16-mixed or 32-true",
      options_.minimum_scale, list);
}

void GradScaler::load_state(const GradScalerState& state, const std::string& source) {
  if (!is_valid(state)) {
    fail<Corrupt>(
        "{}: a loss scale of {} after {} clean and {} skipped updates cannot be; expected a "
        "positive scale and counts of at least 0",
        source, state.scale, state.clean_updates, state.skipped_updates);
  }
  state_ = state;
  state_.scale = std::max(state_.scale, options_.minimum_scale);
  records_.clear();
  if (!on_device_) return;
  on_device_->set(for_device(state_));
  ++generation_;
  lost_seen_ = 0;
}

}  // namespace weft::tensor::amp
