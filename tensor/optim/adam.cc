#include "tensor/optim/adam.h"

#include "kernels/optimizer.h"

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

void Adam::update(const std::vector<Update>& updates, const ParameterGroup& group,
                  double gradient_scale) {
  kernels::AdamParams params;
  params.learning_rate = group.learning_rate;
  params.beta1 = options_.beta1;
  params.beta2 = options_.beta2;
  params.epsilon = options_.epsilon;
  params.weight_decay = group.weight_decay;
  params.decoupled = decoupled_;
  params.step = updates.front().state->steps();
  params.gradient_scale = gradient_scale;
  std::vector<kernels::AdamTensor> tensors;
  tensors.reserve(updates.size());
  for (const auto& [state, gradient] : updates) {
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
  kernels::adam(tensors, params);
}

}  // namespace weft::optim
