// A rank that trains a small GPT through Fabric, under whatever strategy `weft run` was told, and
// says what came of it in one line. Arguments are NAME=VALUE; see Settings.
#include <fmt/format.h>

#include <cstdint>
#include <limits>
#include <map>
#include <string>

#include "kernels/base/error.h"
#include "launcher/fabric.h"
#include "tensor/autograd/node.h"
#include "tensor/nn/gpt.h"
#include "tensor/ops/basic.h"
#include "tensor/optim/adam.h"
#include "tensor/parallel/zero.h"
#include "tensor/part.h"
#include "tensor/random.h"

namespace {

using namespace weft;  // NOLINT: as in examples

struct Settings {
  explicit Settings(int argc, char** argv) {
    for (int i = 1; i < argc; ++i) {
      const std::string text = argv[i];
      const auto at = text.find('=');
      values[text.substr(0, at)] = std::stod(text.substr(at + 1));
    }
  }
  double of(const std::string& name, double fallback) const {
    const auto found = values.find(name);
    return found == values.end() ? fallback : found->second;
  }
  // steps, accumulate, live_units, clip (largest norm; 0: none), clip_value (likewise); scale: the
  // first loss scale (then 16-mixed is f16); least: the smallest; poison_rank and poison_step:
  // where one gradient of that rank's share becomes infinite
  std::map<std::string, double> values;
};

std::pair<Tensor, Tensor> batch(std::uint64_t seed, const nn::GPTConfig& config) {
  tensor::Generator generator(seed);
  std::vector<std::int64_t> tokens, targets;
  for (int i = 0; i < 2 * config.block_size; ++i) {
    tokens.push_back(static_cast<std::int64_t>(
        generator.next_below(static_cast<std::uint64_t>(config.vocab_size))));
    targets.push_back(static_cast<std::int64_t>(
        generator.next_below(static_cast<std::uint64_t>(config.vocab_size))));
  }
  return {Tensor::from(tokens, {2, config.block_size}),
          Tensor::from(targets, {2, config.block_size})};
}

// FNV-1a
std::uint64_t fingerprint(const nn::Module& model) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const auto& parameter : model.parameters()) {
    const auto values = parameter.detach().to(DType::f64).to_vector<double>();
    const auto* bytes = reinterpret_cast<const unsigned char*>(values.data());
    for (std::size_t i = 0; i < values.size() * sizeof(double); ++i) {
      hash = (hash ^ bytes[i]) * 0x100000001b3;
    }
  }
  return hash;
}

void poison(const nn::Module& model) {
  for (const auto& parameter : model.parameters()) {
    auto updated = tensor::updated_of(parameter);
    if (updated.numel() == 0) continue;
    const NoGrad no_grad;
    updated.grad().flatten().narrow(0, 0, 1).fill_(std::numeric_limits<double>::infinity());
    return;
  }
}

FabricOptions options_of(const Settings& settings) {
  FabricOptions options;
  const char* strategy = std::getenv("WEFT_STRATEGY");
  if (strategy != nullptr && std::string(strategy) != "ddp") {
    options.zero.emplace().live_units = static_cast<int>(settings.of("live_units", 2));
  }
  if (const double scale = settings.of("scale", 0); scale > 0) {
    options.grad_scaler = {.initial_scale = scale, .minimum_scale = settings.of("least", 1)};
  }
  return options;
}

void train(const Settings& settings) {
  Fabric fabric(options_of(settings));
  fabric.launch();
  tensor::Generator generator(3);
  const nn::GPTConfig config{
      .block_size = 8, .vocab_size = 37, .n_layer = 3, .n_head = 2, .n_embd = 12};
  nn::GPT model(config, &generator);
  fabric.setup(model);
  optim::AdamW optimizer(optim::decay_groups(model.named_parameters(), 1e-2, 0.1));
  fabric.setup_optimizers(optimizer);
  const int steps = static_cast<int>(settings.of("steps", 50));
  const int accumulate = static_cast<int>(settings.of("accumulate", 1));
  const bool is_poisoned = settings.of("poison_rank", -1) == fabric.global_rank();
  int skipped = 0;
  double norm = 0, loss_sum = 0;
  for (int step = 0; step < steps; ++step) {
    for (int micro = 0; micro < accumulate; ++micro) {
      const auto seed = (step * accumulate + micro) * 64 + fabric.global_rank();
      const auto [tokens, targets] = batch(static_cast<std::uint64_t>(seed), config);
      const auto quiet = fabric.no_backward_sync(model, micro + 1 < accumulate);
      const auto loss = model.forward(tokens, targets).loss;
      loss_sum += loss.item();
      fabric.backward(accumulate > 1 ? ops::mul(loss, 1.0 / accumulate) : loss);
    }
    if (is_poisoned && settings.of("poison_step", -1) == step) poison(model);
    if (const double most = settings.of("clip", 0); most > 0) {
      norm = fabric.clip_gradients(model, {.max_norm = most});
    }
    if (const double most = settings.of("clip_value", 0); most > 0) {
      fabric.clip_gradients(model, {.clip_val = most});
    }
    if (!optimizer.step()) ++skipped;
    optimizer.zero_grad();
  }
  std::optional<parallel::Zero::Gathered> gathered;
  if (auto* zero = fabric.zero(model)) gathered.emplace(*zero);
  const double scale = fabric.grad_scaler() == nullptr ? 0 : fabric.grad_scaler()->scale();
  fmt::print("result parameters={:016x} norm={:.17g} skipped={} scale={} loss={:.17g}\n",
             fingerprint(model), norm, skipped, scale, fabric.all_reduce(loss_sum));
}

}  // namespace

int main(int argc, char** argv) {
  try {
    train(Settings(argc, argv));
    return 0;
  } catch (const Error& error) {
    fmt::print(stderr, "{}: {}\n", name_of(error.code()), error.what());
    return 1;
  }
}
