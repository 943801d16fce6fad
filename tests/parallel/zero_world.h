// A small GPT (tied embedding, blocks as units) trained by DDP or by a stage of ZeRO.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tensor/nn/gpt.h"
#include "tensor/ops/basic.h"
#include "tensor/optim/adam.h"
#include "tensor/parallel/ddp.h"
#include "tensor/parallel/zero.h"
#include "tensor/random.h"
#include "tests/parallel/in_process_world.h"

namespace weft::parallel::tests {

using tensor::Generator;
using weft::tests::message_of;
using weft::tests::run_world;
using weft::tests::run_world_catching;

inline nn::GPTConfig tiny_gpt() {
  nn::GPTConfig config;
  config.block_size = 8;
  config.vocab_size = 37;  // divides by nothing: shares cut through parameters
  config.n_layer = 3;
  config.n_head = 2;
  config.n_embd = 12;
  return config;
}

struct TokenBatch {
  Tensor tokens, targets;
};
inline TokenBatch token_batch(std::uint64_t seed, std::int64_t rows = 2) {
  Generator generator(seed);
  std::vector<std::int64_t> tokens, targets;
  for (std::int64_t i = 0; i < rows * 8; ++i) {
    tokens.push_back(static_cast<std::int64_t>(generator.next_double() * 37));
    targets.push_back(static_cast<std::int64_t>(generator.next_double() * 37));
  }
  return {Tensor::from(tokens, {rows, 8}), Tensor::from(targets, {rows, 8})};
}

struct Plan {
  int stage = 0;  // 0: DDP
  int steps = 50;
  int accumulate = 1;
  bool no_sync = true;  // micro-batches but the last accumulate without averaging
  ZeroOptions zero = {};
  DType dtype = DType::f32;
  double max_norm = 0;  // clips where it is not 0
};

inline std::unique_ptr<Engine> make_engine(const Plan& plan, nn::Module& model,
                                           Communicator& comm) {
  if (plan.stage == 0) {
    DdpOptions options;
    options.first_bucket_bytes = Bytes(64);
    options.bucket_bytes = Bytes(4096);
    return std::make_unique<Ddp>(model.named_parameters(), model.named_buffers(), comm, options);
  }
  auto options = plan.zero;
  options.stage = plan.stage;
  return std::make_unique<Zero>(model, comm, options);
}

inline std::vector<double> values_of(nn::Module& model, Engine& engine) {
  std::unique_ptr<Zero::Gathered> gathered;
  if (auto* zero = dynamic_cast<Zero*>(&engine)) gathered = std::make_unique<Zero::Gathered>(*zero);
  std::vector<double> all;
  for (const auto& [name, p] : model.named_parameters()) {
    for (const double v : p.detach().to(DType::f64).to_vector<double>()) all.push_back(v);
  }
  return all;
}

inline void backward_of_step(const Plan& plan, nn::GPT& model, Engine& engine, Communicator& comm,
                             int step) {
  for (int m = 0; m < plan.accumulate; ++m) {
    const auto seed = static_cast<std::uint64_t>((step * plan.accumulate + m) * 64 + comm.rank());
    const auto [tokens, targets] = token_batch(seed);
    std::unique_ptr<Engine::NoSync> quiet;
    if (plan.no_sync && m + 1 < plan.accumulate) quiet = std::make_unique<Engine::NoSync>(engine);
    const auto loss = model.forward(tokens, targets).loss;
    engine.backward(plan.accumulate > 1 ? tensor::ops::mul(loss, 1.0 / plan.accumulate) : loss);
  }
}

// What every rank's parameters are in the end.
inline std::vector<std::vector<double>> train(int world, const Plan& plan) {
  std::vector<std::vector<double>> results(static_cast<std::size_t>(world));
  run_world(world, [&](Communicator& comm) {
    Generator generator(3 + static_cast<std::uint64_t>(comm.rank()));  // rank 0's values win
    nn::GPT model(tiny_gpt(), &generator);
    model.to(plan.dtype);
    const auto engine = make_engine(plan, model, comm);
    optim::AdamW optimizer(optim::decay_groups(model.named_parameters(), 1e-2, 0.1));
    for (int step = 0; step < plan.steps; ++step) {
      backward_of_step(plan, model, *engine, comm, step);
      if (auto* zero = dynamic_cast<Zero*>(engine.get()); zero && plan.max_norm > 0) {
        zero->clip_grad_norm(plan.max_norm);
      }
      optimizer.step();
      optimizer.zero_grad();
    }
    results[static_cast<std::size_t>(comm.rank())] = values_of(model, *engine);
  });
  return results;
}

}  // namespace weft::parallel::tests
