#include "tensor/optim/sgd.h"

#include <cmath>

#include "kernels/optimizer.h"
#include "tensor/optim/step_on_device.h"

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

void Sgd::update(const Batch& batch) {
  kernels::SgdParams params;
  params.learning_rate = batch.group->learning_rate;
  params.momentum = options_.momentum;
  params.dampening = options_.dampening;
  params.weight_decay = batch.group->weight_decay;
  params.nesterov = options_.nesterov;
  params.first_step = batch.step == 1;
  params.gradient_scale = batch.gradient_scale;
  std::vector<kernels::SgdTensor> tensors;
  tensors.reserve(batch.updates.size());
  for (const auto& [state, gradient] : batch.updates) {
    kernels::SgdTensor tensor;
    tensor.parameter = state->updated().data();
    tensor.gradient = gradient.data();
    tensor.momentum = state->slots.empty() ? nullptr : state->slots[0].data();
    tensor.count = Elems(gradient.numel());
    tensor.parameter_type = state->updated().dtype();
    tensor.gradient_type = gradient.dtype();
    if (state->master.defined()) {
      tensor.low_precision_copy = state->parameter.data();
      tensor.copy_type = state->parameter.dtype();
    }
    tensors.push_back(tensor);
  }
  by_batch_device(
      batch, [&] { kernels::sgd(tensors, params); },
      [&](const kernels::cuda::StepOnDevice& on_device, kernels::cuda::Stream stream) {
        kernels::cuda::sgd(tensors, params, on_device, stream);
      });
}

}  // namespace weft::optim
