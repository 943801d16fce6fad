#include "tensor/parallel/engine.h"

namespace weft::parallel {

void Engine::backward(const Tensor& loss, const Tensor& gradient) {
  begin_backward();
  try {
    loss.backward(gradient);
  } catch (...) {
    cancel_backward();
    throw;
  }
  require_gradients();
  finish_backward();
}

TrainingShards Engine::training_shards(optim::Optimizer* optimizer, optim::ShardUse use) const {
  TrainingShards shards{parameter_shards(), {}};
  if (optimizer != nullptr) shards.optimizer = optimizer->state_shards(use);
  return shards;
}

}  // namespace weft::parallel
