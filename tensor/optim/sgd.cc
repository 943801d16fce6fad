#include "tensor/optim/sgd.h"

#include <cmath>

#include "kernels/optimizer.h"

namespace weft::optim {
namespace {

std::vector<std::string_view> slots_of(const SgdOptions& options) {
  if (options.momentum == 0.0) return {};
  return {"momentum"};
}

}  // namespace

Sgd::Sgd(std::vector<ParameterGroup> groups, SgdOptions options)
    : Optimizer(std::move(groups), slots_of(options)), options_(options) {
  if (!(options.momentum >= 0.0) || !std::isfinite(options.momentum) ||
      !std::isfinite(options.dampening)) {
    fail<InvalidArgument>("Sgd: momentum {} must be at least 0 and dampening {} finite",
                          options.momentum, options.dampening);
  }
  if (options.nesterov && (options.momentum == 0.0 || options.dampening != 0.0)) {
    fail<InvalidArgument>("Sgd: nesterov needs momentum (found {}) and no dampening (found {})",
                          options.momentum, options.dampening);
  }
}

void Sgd::update(const std::vector<Update>& updates, const ParameterGroup& group,
                 double gradient_scale) {
  kernels::SgdParams params;
  params.learning_rate = group.learning_rate;
  params.momentum = options_.momentum;
  params.dampening = options_.dampening;
  params.weight_decay = group.weight_decay;
  params.nesterov = options_.nesterov;
  params.first_step = updates.front().state->steps() == 1;
  params.gradient_scale = gradient_scale;
  std::vector<kernels::SgdTensor> tensors;
  tensors.reserve(updates.size());
  for (const auto& [state, gradient] : updates) {
    kernels::SgdTensor tensor;
    tensor.parameter = state->updated().data();
    tensor.gradient = gradient.data();
    tensor.momentum = state->slots.empty() ? nullptr : state->slots[0].data();
    tensor.count = Elems(gradient.numel());
    tensor.parameter_type = state->updated().dtype();
    tensor.gradient_type = gradient.dtype();
    tensors.push_back(tensor);
  }
  kernels::sgd(tensors, params);
  for (const auto& [state, gradient] : updates) {
    if (state->master.defined()) state->parameter.copy_(state->master);
  }
}

}  // namespace weft::optim
