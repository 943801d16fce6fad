#include "tensor/amp/grad_scaler.h"

#include <algorithm>
#include <cmath>
#include <locale>
#include <sstream>

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

bool is_scale(double value) {  // a number by which f32 can be multiplied
  return value > 0.0 && std::isfinite(static_cast<float>(value)) &&
         static_cast<float>(value) > 0.0f;
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

Tensor GradScaler::scaled(const Tensor& loss) const {
  if (!loss.defined()) fail<InvalidArgument>("GradScaler::scaled: the loss is undefined");
  return ops::mul(is_half(loss.dtype()) ? loss.to(DType::f32) : loss, state_.scale);
}

GradScaler::Record& GradScaler::record_of(optim::Optimizer& optimizer) {
  const auto [found, fresh] = records_.try_emplace(&optimizer);
  if (fresh) found->second.carried = state_.scale;
  return found->second;
}

void GradScaler::prepare(optim::Optimizer& optimizer) {
  auto& record = record_of(optimizer);
  if (record.carried != state_.scale) {
    const NoGrad no_grad;
    const double factor = state_.scale / record.carried;
    for (const auto& part : gradients_of(optimizer)) {
      WEFT_BY_DEVICE(part.first, scale, part.second, factor);
    }
  }
  record = Record{.carried = state_.scale, .prepared = true, .overflowed_names = {}};
}

void GradScaler::unscale(optim::Optimizer& optimizer) {
  auto& record = record_of(optimizer);
  if (record.unscaled) {
    fail<InvalidArgument>(
        "GradScaler::unscale: these gradients were unscaled already; once between backward() and "
        "step() is enough (step() does it where nobody did)");
  }
  const NoGrad no_grad;
  bool here = false;
  for (const auto& [device, gradients] : gradients_of(optimizer)) {
    here |= unscale_and_check(device, gradients, record.carried);
  }
  record.carried = 1.0;
  record.unscaled = true;
  record.overflowed = verdict_ ? verdict_(here) : here;
  if (!record.overflowed || state_.scale > options_.minimum_scale) return;
  record.overflowed_names = overflowed_parameters(optimizer);
  if (names_) record.overflowed_names = names_(record.overflowed_names);
}

bool GradScaler::is_unscaled(const optim::Optimizer& optimizer) const {
  const auto found = records_.find(&optimizer);
  return found != records_.end() && found->second.unscaled;
}

bool GradScaler::admit(optim::Optimizer& optimizer) {
  if (record_of(optimizer).admitted) {
    fail<InvalidArgument>(
        "GradScaler::step: this optimizer has stepped already since the last update(); call "
        "update() once all optimizers have stepped");
  }
  if (!record_of(optimizer).unscaled) unscale(optimizer);
  auto& record = record_of(optimizer);
  record.admitted = true;
  return !record.overflowed;
}

bool GradScaler::step(optim::Optimizer& optimizer) {
  if (!admit(optimizer)) return false;
  return optimizer.step();
}

void GradScaler::update() {
  bool any = false, overflowed = false;
  std::vector<std::string> names;
  for (auto it = records_.begin(); it != records_.end();) {
    const auto& record = it->second;
    if (!record.admitted) {  // still to step: its gradients carry what they carry
      ++it;
      continue;
    }
    any = true;
    overflowed = overflowed || record.overflowed;
    names.insert(names.end(), record.overflowed_names.begin(), record.overflowed_names.end());
    if (record.prepared) {
      it++->second.admitted = false;  // unscaled they stay, whatever is stepped without a backward
    } else {
      it = records_.erase(it);
    }
  }
  if (!any) {
    fail<InvalidArgument>("GradScaler::update: no optimizer has stepped since the last update()");
  }
  if (overflowed) {
    ++state_.skipped_updates;
    state_.clean_updates = 0;
    if (state_.scale <= options_.minimum_scale) give_up(names);
    state_.scale = std::max(state_.scale * options_.backoff_factor, options_.minimum_scale);
  } else if (++state_.clean_updates >= options_.growth_interval) {
    state_.clean_updates = 0;
    const double larger = state_.scale * options_.growth_factor;
    if (is_scale(larger)) state_.scale = larger;
  }
}

void GradScaler::give_up(const std::vector<std::string>& names) const {
  std::string list;
  for (std::size_t i = 0; i < std::min(names.size(), kNamesShown); ++i) {
    list += (i == 0 ? "" : ", ") + names[i];
  }
  if (names.size() > kNamesShown) list += fmt::format(" and {} more", names.size() - kNamesShown);
  if (names.empty()) list = "parameters of another rank";
  fail<NotFinite>(
      "GradScaler: gradients are not finite although the loss scale is at its smallest, {}: those "
      "of {}. The model or its inputs produce infinities themselves: lower the learning rate, look "
      "for bad samples, or use bf16-mixed or 32-true",
      options_.minimum_scale, list);
}

bool is_valid(const GradScalerState& state) {
  return is_scale(state.scale) && state.clean_updates >= 0 && state.skipped_updates >= 0;
}

std::string to_string(const GradScalerState& state) {
  return fmt::format("{} {} {}", state.scale, state.clean_updates, state.skipped_updates);
}

GradScalerState parse_grad_scaler_state(const std::string& text, const std::string& source) {
  GradScalerState state;
  std::istringstream in(text);
  in.imbue(std::locale::classic());
  std::string rest;
  if (!(in >> state.scale >> state.clean_updates >> state.skipped_updates) || in >> rest) {
    fail<Corrupt>(
        "{}: '{}' is no state of a loss scale; expected the scale and the counts of clean and "
        "skipped updates",
        source, text);
  }
  return state;
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
}

}  // namespace weft::tensor::amp
