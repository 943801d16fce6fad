#include "tensor/optim/adam.h"

#include "kernels/optimizer.h"
#include "tensor/optim/step_on_device.h"

namespace weft::optim {

Adam::Adam(std::vector<ParameterGroup> groups, AdamOptions options, bool decoupled)
    : Optimizer(std::move(groups), {"exp_avg", "exp_avg_sq"}),
      options_(options),
      decoupled_(decoupled) {
  const auto is_beta = [](double beta) { return beta >= 0.0 && beta < 1.0; };
  if (!is_beta(options.beta1) || !is_beta(options.beta2) || !(options.epsilon >= 0.0)) {
    fail<InvalidArgument>("Adam: beta1 {} and beta2 {} must be in [0, 1) and epsilon {} at least 0",
                          options.beta1, options.beta2, options.epsilon);
  }
}

void Adam::update(const Batch& batch) {
  kernels::AdamParams params;
  params.learning_rate = batch.group->learning_rate;
  params.beta1 = options_.beta1;
  params.beta2 = options_.beta2;
  params.epsilon = options_.epsilon;
  params.weight_decay = batch.group->weight_decay;
  params.decoupled = decoupled_;
  params.step = batch.step;
  params.gradient_scale = batch.gradient_scale;
  std::vector<kernels::AdamTensor> tensors;
  tensors.reserve(batch.updates.size());
  for (const auto& [state, gradient] : batch.updates) {
    kernels::AdamTensor tensor;
    tensor.parameter = state->updated().data();
    tensor.gradient = gradient.data();
    tensor.exp_avg = state->slots[0].data();
    tensor.exp_avg_sq = state->slots[1].data();
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
      batch, [&] { kernels::adam(tensors, params); },
      [&](const kernels::cuda::StepOnDevice& on_device, kernels::cuda::Stream stream) {
        kernels::cuda::adam(tensors, params, on_device, stream);
      });
}

}  // namespace weft::optim
