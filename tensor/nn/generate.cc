#include <algorithm>
#include <cmath>
#include <numeric>

#include "tensor/autograd/node.h"
#include "tensor/nn/gpt.h"
#include "tensor/ops/basic.h"

namespace weft::nn {
namespace {

class EvalScope {  // eval mode for the scope
 public:
  explicit EvalScope(Module& module) : module_(module), was_training_(module.is_training()) {
    module.eval();
  }
  ~EvalScope() { module_.train(was_training_); }
  EvalScope(const EvalScope&) = delete;
  EvalScope& operator=(const EvalScope&) = delete;

 private:
  Module& module_;
  bool was_training_;
};

void check(const GenerateOptions& options) {
  if (!(options.temperature >= 0.0) || !std::isfinite(options.temperature)) {
    fail<InvalidArgument>("generate: temperature must be finite and at least 0, not {}",
                          options.temperature);
  }
  if (options.top_k < 0) {
    fail<InvalidArgument>("generate: top_k must be at least 0 (0: all), not {}", options.top_k);
  }
}

// The smallest of the k largest; ties with it are kept, as nanoGPT does.
double threshold(std::span<const double> logits, std::int64_t k) {
  std::vector<double> sorted(logits.begin(), logits.end());
  const auto kth = sorted.begin() + (k - 1);
  std::nth_element(sorted.begin(), kth, sorted.end(), std::greater<>());
  return *kth;
}

}  // namespace

std::int64_t sample_token(std::span<const double> logits, const GenerateOptions& options) {
  check(options);
  if (logits.empty()) fail<InvalidArgument>("generate: there are no logits to draw from");
  for (const double logit : logits) {
    if (std::isnan(logit) || logit == HUGE_VAL) {
      fail<InvalidArgument>(
          "generate: the model's output is not finite ({}); training diverged, "
          "or the weights are damaged",
          logit);
    }
  }
  const auto largest = std::max_element(logits.begin(), logits.end());
  const auto likeliest = static_cast<std::int64_t>(largest - logits.begin());
  if (options.temperature == 0.0) return likeliest;
  const auto count = static_cast<std::int64_t>(logits.size());
  const bool all = options.top_k == 0 || options.top_k >= count;
  const double lowest = all ? -HUGE_VAL : threshold(logits, options.top_k);
  std::vector<double> weights(logits.size());
  std::transform(logits.begin(), logits.end(), weights.begin(), [&](double logit) {
    return logit < lowest ? 0.0 : std::exp((logit - *largest) / options.temperature);
  });
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  auto& generator = options.generator != nullptr ? *options.generator : tensor::default_generator();
  double rest = generator.next_double() * total;
  std::int64_t chosen = likeliest;  // where rounding leaves a rest
  for (std::int64_t i = 0; i < count; ++i) {
    const double weight = weights[static_cast<std::size_t>(i)];
    if (rest < weight) {
      chosen = i;
      break;
    }
    rest -= weight;
  }
  return chosen;
}

Tensor GPT::generate(const Tensor& prompt, std::int64_t max_new_tokens,
                     const GenerateOptions& options) {
  check(options);
  if (prompt.dim() != 2 || prompt.numel() == 0 || max_new_tokens < 0) {
    fail<InvalidArgument>(
        "generate: expected a prompt (batch, time) that is not empty and max_new_tokens >= 0, "
        "found {} and {}",
        tensor::to_string(prompt.shape()), max_new_tokens);
  }
  NoGrad no_grad;
  const EvalScope eval_scope(*this);
  const Forward scope(*this);
  const auto batch = prompt.size(0), start = prompt.size(1);
  auto text = Tensor::empty({batch, start + max_new_tokens}, {DType::i64});
  text.narrow(1, 0, start).copy_(prompt);
  auto* tokens = text.data<std::int64_t>();
  const auto stride = start + max_new_tokens;
  for (auto end = start; end < stride; ++end) {
    const auto length = std::min(end, config_.block_size);
    const auto context = text.narrow(1, end - length, length).contiguous();
    const auto last = trunk(context).narrow(1, length - 1, 1).reshape({batch, config_.n_embd});
    const auto logits = ops::linear(last, wte_.weight()).to(DType::f64).contiguous();
    const std::span<const double> all(logits.data<double>(),
                                      static_cast<std::size_t>(logits.numel()));
    const auto width = static_cast<std::size_t>(config_.vocab_size);
    for (std::int64_t row = 0; row < batch; ++row) {
      const auto offset = static_cast<std::size_t>(row) * width;
      tokens[row * stride + end] = sample_token(all.subspan(offset, width), options);
    }
  }
  return text;
}

}  // namespace weft::nn
