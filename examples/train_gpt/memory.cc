#include "examples/train_gpt/memory.h"

#include "tensor/nn/gpt_memory.h"
#include "tensor/parallel/memory_plan.h"
#include "tensor/parallel/zero.h"

namespace train_gpt {
namespace {

using namespace weft;  // NOLINT: an example reads better so

Bytes bytes_of_tensor(const Tensor& tensor) {
  return bytes_of(Elems(tensor.numel()), tensor.dtype());
}

}  // namespace

MemoryUse predict_memory(const Options& options, const nn::GPT& model, const Fabric& fabric) {
  const auto& settings = fabric.settings();
  const auto strategy = parallel::parse_strategy(settings.strategy);
  parallel::MemoryPlanInput input;
  input.units = nn::gpt_units(model.config());
  input.precision = amp::parse_precision(settings.precision).value();
  input.ranks = fabric.world_size();
  if (settings.zero) input.live_units = settings.zero->live_units;
  input.accumulates = options.gradient_accumulation_steps > 1;
  const nn::StepShape step{options.batch_size, options.model.block_size,
                           options.gradient_accumulation_steps > 1};
  input.activations =
      nn::gpt_step_memory(model.config(), step, parallel::held_precision(strategy.value(), input));
  input.step_alone =
      nn::gpt_step_memory(model.config(), step, input.precision, nn::GradientMemory::asked_for);
  return parallel::plan_memory(strategy.value(), input);
}

MemoryWatch::MemoryWatch(nn::GPT& model, optim::Optimizer& optimizer, const Fabric& fabric)
    : model_(model), optimizer_(optimizer), fabric_(fabric) {
  tensor::reset_tensor_memory_peak(fabric.device());
}

void MemoryWatch::see_gradients() {
  if (has_seen()) return;
  if (const auto* zero = fabric_.zero(model_); zero != nullptr && fabric_.world_size() > 1) {
    gradients_ = zero->bytes().gradients;
    return;
  }
  for (const auto& parameter : model_.parameters()) {
    const auto gradient = parameter.grad();
    if (!gradient.defined()) continue;
    gradients_ += bytes_of_tensor(gradient);
    if (gradient.storage()->is_borrowed()) borrowed_ += bytes_of_tensor(gradient);
  }
}

MemoryUse MemoryWatch::use() const {
  MemoryUse use;
  use.optimizer = optimizer_.state_bytes();
  use.gradients = gradients_;
  use.peak = tensor::tensor_memory(fabric_.device()).peak + borrowed_;
  if (const auto* zero = fabric_.zero(model_); zero != nullptr && fabric_.world_size() > 1) {
    const auto bytes = zero->bytes();  // what lies in symmetric memory is not the allocator's
    use.parameters = bytes.parameters + bytes.replicated;
    use.optimizer += bytes.masters;
    use.gathered = bytes.reserved + bytes.accumulated_peak;
    use.peak += bytes.parameters + bytes.gradients + bytes.reserved;
  } else {
    for (const auto& parameter : model_.parameters()) use.parameters += bytes_of_tensor(parameter);
  }
  use.activations = use.peak - use.state() - use.gathered;
  return use;
}

MemoryUse largest(const MemoryUse& use, Fabric& fabric) {
  MemoryUse all = use;
  for (Bytes* bytes : {&all.parameters, &all.gradients, &all.optimizer, &all.gathered,
                       &all.activations, &all.peak, &all.host}) {
    const auto most = fabric.all_reduce(static_cast<double>(bytes->value), "max");
    *bytes = Bytes(static_cast<std::int64_t>(most));
  }
  return all;
}

}  // namespace train_gpt
