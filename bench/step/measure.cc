#include "bench/step/measure.h"

#include <algorithm>
#include <chrono>
#include <optional>

#include "kernels/base/error.h"
#include "kernels/cuda/runtime.h"
#include "tensor/autograd/node.h"
#include "tensor/cuda_graph.h"
#include "tensor/ops/basic.h"
#include "tensor/optim/adam.h"

namespace weft::bench {

namespace {

using Clock = std::chrono::steady_clock;
using tensor::Generator;

constexpr int kStepsBeforeGraph = 3;  // two as they are, one that is captured

double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void drain(const Fabric& fabric) {
  if (fabric.device().type == DeviceType::cuda) kernels::cuda::wait_device();
}

double median_of(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// What this device reaches in a product large enough to be bound by arithmetic, of the type that
// the step's products have.
double measure_peak(const Fabric& fabric) {
  const auto& policy = fabric.settings().policy;
  const bool on_cuda = fabric.device().type == DeviceType::cuda;
  const std::int64_t n = on_cuda ? 8192 : 1024;
  Generator generator(1);
  const tensor::autograd::NoGrad no_grad;
  const auto operand = [&] {
    const Tensor drawn = Tensor::randn({n, n}, generator);  // random: zeros take less power
    return drawn.to(policy.compute.value_or(policy.parameters)).to(fabric.device());
  };
  const Tensor a = operand(), b = operand();
  std::vector<double> seconds;
  constexpr int kProducts = 10, kWarmup = 3;
  for (int i = 0; i < kWarmup + kProducts; ++i) {
    drain(fabric);
    const auto start = Clock::now();
    const Tensor product = ops::matmul(a, b);
    drain(fabric);
    if (i >= kWarmup) seconds.push_back(since(start));
  }
  const auto side = static_cast<double>(n);
  return 2 * side * side * side / median_of(seconds);
}

Tensor random_tokens(const StepOptions& options, Generator& generator) {
  const std::int64_t count = options.batch_size * options.model.block_size;
  const Tensor drawn = Tensor::rand({count}, generator);
  std::vector<std::int64_t> tokens;
  for (const float u : drawn.to_vector<float>()) {
    tokens.push_back(static_cast<std::int64_t>(static_cast<double>(u) *
                                               static_cast<double>(options.model.vocab_size)));
  }
  return Tensor::from(tokens, {options.batch_size, options.model.block_size});
}

}  // namespace

double StepTimes::median() const { return median_of(seconds); }

StepTimes measure_steps(const StepOptions& options, Fabric& fabric) {
  if (options.graph && fabric.device().type != DeviceType::cuda) {
    fail<InvalidArgument>("--graph: graphs are CUDA's: give --accelerator=cuda, or leave it out");
  }
  StepTimes times;
  times.peak_flops = options.peak_tflops > 0 ? options.peak_tflops * 1e12 : measure_peak(fabric);
  Generator generator(1337);
  nn::GPT model(options.model, &generator);
  times.parameters = model.num_parameters();
  times.flops_per_token = model.flops_per_token();
  fabric.setup(model);
  optim::AdamW optimizer(optim::decay_groups(model.named_parameters(), 1e-4, 0.1),
                         {.beta1 = 0.9, .beta2 = 0.95});
  fabric.setup_optimizers(optimizer);
  Generator data(static_cast<std::uint64_t>(1 + fabric.global_rank()));
  const Tensor inputs = fabric.to_device(random_tokens(options, data));
  const Tensor targets = fabric.to_device(random_tokens(options, data));
  const auto body = [&](const std::vector<Tensor>& batch) -> std::vector<Tensor> {
    optimizer.zero_grad();
    const Tensor loss = model.forward(batch[0], batch[1]).loss;
    fabric.backward(loss);
    fabric.clip_gradients_tensor(model, 1.0);
    optimizer.step();
    return {loss.detach()};
  };
  std::optional<tensor::GraphedStep> graph;
  if (options.graph) graph.emplace(body, tensor::GraphOptions{.device = fabric.device()});
  const int warmup = graph ? std::max(options.warmup, kStepsBeforeGraph) : options.warmup;
  for (int step = 0; step < warmup + options.steps; ++step) {
    fabric.barrier("step");
    drain(fabric);
    const auto start = Clock::now();
    const Tensor loss = graph ? (*graph)({inputs, targets})[0] : body({inputs, targets})[0];
    drain(fabric);
    const double slowest = fabric.all_reduce(since(start), "max");
    if (step >= warmup) times.seconds.push_back(slowest);
    if (step == 0) times.first_loss = loss.item();
    if (step + 1 == warmup + options.steps) times.last_loss = loss.item();
  }
  times.graph_launches = graph ? graph->launches() : 0;
  if (auto* scaler = fabric.grad_scaler()) scaler->check(optimizer);
  return times;
}

}  // namespace weft::bench
