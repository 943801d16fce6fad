#include "tensor/nn/gpt_memory.h"

#include <algorithm>
#include <numeric>

#include "kernels/base/error.h"
#include "kernels/compute_type.h"

namespace weft::nn {
namespace {

// Bytes alive, and the most so far. Double: an absurd shape must not overflow.
class Tape {
 public:
  void take(double bytes) {
    live_ += bytes;
    peak_ = std::max(peak_, live_);
  }
  void give(double bytes) { live_ -= bytes; }
  double peak() const { return peak_; }

 private:
  double live_ = 0, peak_ = 0;
};

// One walk forward, one back. In sizes: `wide` are bytes of an element of the residual stream and
// of norms, `low` of products; they differ under autocast alone ("mixed").
class Walk {
 public:
  Walk(const GPTConfig& config, const StepShape& shape, amp::Precision precision,
       GradientMemory gradients)
      : layers_(config.n_layer),
        dropout_(config.dropout > 0),
        gradients_stay_(gradients == GradientMemory::asked_for),
        adds_up_(gradients == GradientMemory::kept && shape.accumulates) {
    const auto policy = amp::policy_of(precision);
    mixed_ = policy.compute.has_value();
    const auto bytes = [](DType dtype) { return static_cast<double>(size_of(dtype).value); };
    wide_ = bytes(policy.parameters);
    low_ = bytes(policy.compute.value_or(policy.parameters));
    const double statistic = bytes(kernels::compute_type(policy.parameters));
    const double rows = static_cast<double>(shape.batch_size) * static_cast<double>(shape.time);
    rows_channels_ = rows * static_cast<double>(config.n_embd);
    logits_ = rows * static_cast<double>(config.vocab_size);
    norm_statistics_ = 2 * rows * statistic;
    log_sum_exp_ = rows * statistic;
    attention_statistics_ = rows * static_cast<double>(config.n_head) * statistic;
    tokens_ = 2 * rows * 4;
    square_ = static_cast<double>(config.n_embd) * static_cast<double>(config.n_embd);
    table_ = static_cast<double>(config.vocab_size) * static_cast<double>(config.n_embd);
  }

  double peak() {
    tape_.take(tokens_);
    embed();
    for (std::int64_t i = 0; i < layers_; ++i) {
      attention_forward();
      mlp_forward();
    }
    head_forward();
    head_backward();
    for (std::int64_t i = 0; i < layers_; ++i) {
      mlp_backward();
      attention_backward();
    }
    tape_.take(table_ * wide_);  // the embedding's own part of the table's gradient
    return tape_.peak();
  }

 private:
  double stream(double factor = 1) const { return factor * rows_channels_ * wide_; }
  double product(double factor = 1) const { return factor * rows_channels_ * low_; }
  // A weight's copy in the low type, or its gradient there.
  double copy_of(double elements) const { return mixed_ ? elements * low_ : 0; }

  // The gradient of a weight: in the parameters' type, or first in the low one.
  void begin_gradient(double elements) {
    tape_.take(copy_of(elements));
    if (!mixed_) take_gradient(elements);
  }
  void end_gradient(double elements) {
    if (mixed_) take_gradient(elements);
    tape_.give(copy_of(elements));
    if (adds_up_) tape_.give(elements * wide_);
  }
  void take_gradient(double elements) {
    if (gradients_stay_ || adds_up_) tape_.take(elements * wide_);
  }

  void embed() {
    tape_.take(stream());  // rows of the table
    tape_.take(stream());  // with positions: kept by the first norm, or by dropout
    tape_.give(stream());
    if (dropout_) tape_.take(stream());
  }

  // Its input is kept already. The result lies in `wide` and, for the product behind it, in `low`.
  void norm_forward() {
    tape_.take(stream() + norm_statistics_);
    if (mixed_) tape_.take(product());
  }

  // What a branch gives is added to the stream, which the next norm keeps. Under autocast the
  // norm's wide result, an argument, dies only now.
  void join_forward() {
    if (dropout_) tape_.take(product());
    if (mixed_) tape_.take(stream());  // the branch in the stream's type
    tape_.take(stream());
    if (mixed_) tape_.give(stream(2));
    tape_.give(product());  // of dropout: its output; its input is kept
  }

  void attention_forward() {
    norm_forward();
    tape_.take(copy_of(3 * square_) + product(3));
    tape_.take(product() + attention_statistics_);
    tape_.take(copy_of(square_) + product());
    join_forward();
  }

  void mlp_forward() {
    norm_forward();
    tape_.take(copy_of(4 * square_) + product(8));  // before GELU, and after it
    tape_.take(copy_of(4 * square_) + product());
    join_forward();
  }

  void head_forward() {
    norm_forward();
    tape_.take(copy_of(table_) + logits_ * low_);
    if (mixed_) {  // forward() gives f32
      tape_.take(logits_ * wide_);
      tape_.give(logits_ * low_ + stream());
    }
    tape_.take(log_sum_exp_);
  }

  void norm_backward() {
    if (mixed_) {  // through the cast
      tape_.take(stream());
      tape_.give(product());
    }
    tape_.take(stream());                      // gradient of its input
    tape_.give(stream(2) + norm_statistics_);  // its input, the gradient of its output
  }

  void head_backward() {
    tape_.take(logits_ * wide_);
    tape_.give(logits_ * wide_ + log_sum_exp_);
    if (mixed_) {
      tape_.take(logits_ * low_);
      tape_.give(logits_ * wide_);
    }
    begin_gradient(table_);
    tape_.take(product());
    tape_.give(product() + copy_of(table_) + logits_ * low_);  // input, weight, gradient of logits
    end_gradient(table_);
    if (adds_up_) tape_.take(table_ * wide_);  // waits for the embedding's part
    norm_backward();
  }

  // From the stream's gradient, which stays, to that of the branch.
  void branch_backward() {
    if (mixed_) tape_.take(product());
    if (!dropout_) return;
    tape_.take(product());
    tape_.give(product());              // its input
    if (mixed_) tape_.give(product());  // the gradient of its output
  }
  bool owns_branch() const { return mixed_ || dropout_; }

  // Ends with the stream's gradient alone.
  void join_backward() {
    norm_backward();
    tape_.give(stream());  // added to what is there
  }

  void mlp_backward() {
    branch_backward();
    begin_gradient(4 * square_);
    tape_.take(product(4));
    tape_.give(copy_of(4 * square_) + product(4));  // weight, GELU's result
    if (owns_branch()) tape_.give(product());
    end_gradient(4 * square_);
    tape_.take(product(4));  // before GELU
    begin_gradient(4 * square_);
    tape_.take(product());
    tape_.give(copy_of(4 * square_) + product(5));  // weight, the norm's result, what GELU kept
    tape_.give(product(8));
    end_gradient(4 * square_);
    join_backward();
  }

  void attention_backward() {
    branch_backward();
    begin_gradient(square_);
    tape_.take(product());
    tape_.give(copy_of(square_));  // weight; attention keeps its result
    if (owns_branch()) tape_.give(product());
    end_gradient(square_);
    tape_.take(product(3));
    tape_.give(product(5) + attention_statistics_);  // qkv, result, gradient of the result
    begin_gradient(3 * square_);
    tape_.take(product());
    tape_.give(copy_of(3 * square_) + product(4));  // weight, the norm's result, gradient of qkv
    end_gradient(3 * square_);
    join_backward();
  }

  Tape tape_;
  std::int64_t layers_;
  bool dropout_, gradients_stay_, adds_up_, mixed_ = false;
  double wide_ = 4, low_ = 4;
  double rows_channels_ = 0, logits_ = 0, square_ = 0, table_ = 0;  // elements
  double norm_statistics_ = 0, log_sum_exp_ = 0, attention_statistics_ = 0, tokens_ = 0;  // bytes
};

}  // namespace

std::vector<Elems> gpt_units(const GPTConfig& config) {
  config.validate();
  const auto c = config.n_embd, bias = std::int64_t{config.bias ? 1 : 0};
  const auto norm = c + bias * c;
  const auto weights = 12 * c * c;  // 3 + 1 of attention, 4 + 4 of the MLP
  const auto biases = bias * (3 * c + c + 4 * c + c);
  std::vector<Elems> units(1, Elems((config.vocab_size + config.block_size) * c + norm));
  units.resize(static_cast<std::size_t>(config.n_layer) + 1, Elems(2 * norm + weights + biases));
  return units;
}

Elems gpt_parameters(const GPTConfig& config) {
  const auto units = gpt_units(config);
  return std::accumulate(units.begin(), units.end(), Elems(0));
}

Bytes gpt_step_memory(const GPTConfig& config, const StepShape& shape, amp::Precision precision,
                      GradientMemory gradients) {
  config.validate();
  constexpr std::int64_t kBatchMax = std::int64_t{1} << 28;
  if (shape.batch_size < 1 || shape.batch_size > kBatchMax || shape.time < 1 ||
      shape.time > config.block_size) {
    fail<InvalidArgument>(
        "GPT: expected a batch of 1..{} sequences and 1..{} tokens each (block_size), found {} and "
        "{}",
        kBatchMax, config.block_size, shape.batch_size, shape.time);
  }
  double most = Walk(config, shape, precision, gradients).peak();
  if (shape.accumulates && gradients == GradientMemory::asked_for) {  // all are there by then
    const auto all = static_cast<double>(gpt_parameters(config).value) *
                     static_cast<double>(size_of(amp::policy_of(precision).parameters).value);
    most = std::max(most, all + Walk(config, shape, precision, GradientMemory::kept).peak());
  }
  constexpr double kMost = 4e18;  // exbibytes
  return Bytes(static_cast<std::int64_t>(std::min(most, kMost)));
}

}  // namespace weft::nn
