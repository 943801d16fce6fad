#include "tensor/nn/gpt.h"

#include <cmath>

#include "tensor/autograd/node.h"
#include "tensor/nn/init.h"
#include "tensor/ops/basic.h"

namespace weft::nn {
namespace {

constexpr double kDeviation = 0.02;  // GPT-2's

const GPTConfig& checked(const GPTConfig& config) {
  config.validate();
  return config;
}

LinearOptions conv1d(const GPTConfig& config, ops::Activation activation = ops::Activation::none) {
  return {config.bias, ops::WeightLayout::in_out, activation, false};
}

}  // namespace

MLP::MLP(const GPTConfig& config)
    : c_fc_(config.n_embd, 4 * config.n_embd, conv1d(config, ops::Activation::gelu)),
      c_proj_(4 * config.n_embd, config.n_embd, conv1d(config)),
      dropout_(config.dropout) {
  register_module("c_fc", c_fc_);
  register_module("c_proj", c_proj_);
  register_module("dropout", dropout_);
}

Tensor MLP::compute(const Tensor& x) { return dropout_.forward(c_proj_.forward(c_fc_.forward(x))); }

CausalSelfAttention::CausalSelfAttention(const GPTConfig& config)
    : n_head_(config.n_head),
      dropout_(config.dropout),
      c_attn_(config.n_embd, 3 * config.n_embd, conv1d(config)),
      c_proj_(config.n_embd, config.n_embd, conv1d(config)),
      residual_dropout_(config.dropout) {
  register_module("c_attn", c_attn_);
  register_module("c_proj", c_proj_);
  register_module("resid_dropout", residual_dropout_);
}

Tensor CausalSelfAttention::compute(const Tensor& x) {
  const double p = is_training() ? dropout_ : 0.0;
  auto* generator = p > 0.0 ? &tensor::default_generator() : nullptr;
  const auto mixed = ops::causal_attention(c_attn_.forward(x), n_head_, p, generator);
  return residual_dropout_.forward(c_proj_.forward(mixed));
}

Block::Block(const GPTConfig& config)
    : ln_1_(config.n_embd, config.bias),
      attn_(config),
      ln_2_(config.n_embd, config.bias),
      mlp_(config) {
  register_module("ln_1", ln_1_);
  register_module("attn", attn_);
  register_module("ln_2", ln_2_);
  register_module("mlp", mlp_);
}

Tensor Block::compute(const Tensor& x) {
  const auto attended = ops::add(x, attn_.forward(ln_1_.forward(x)));
  return ops::add(attended, mlp_.forward(ln_2_.forward(attended)));
}

GPT::GPT(const GPTConfig& config, Generator* generator)
    : config_(checked(config)),
      wte_(config.vocab_size, config.n_embd, false),
      wpe_(config.block_size, config.n_embd, false),
      dropout_(config.dropout),
      ln_f_(config.n_embd, config.bias) {
  register_module("transformer.wte", wte_);
  register_module("transformer.wpe", wpe_);
  register_module("transformer.drop", dropout_);
  for (std::int64_t i = 0; i < config.n_layer; ++i) {
    blocks_.push_back(std::make_unique<Block>(config));
    register_module(fmt::format("transformer.h.{}", i), *blocks_.back());
  }
  register_module("transformer.ln_f", ln_f_);
  register_alias("lm_head.weight", wte_.weight());
  initialize(generator != nullptr ? *generator : tensor::default_generator());
}

void GPT::initialize(Generator& generator) {
  const double residual = kDeviation / std::sqrt(2.0 * static_cast<double>(config_.n_layer));
  normal_(wte_.weight(), 0.0, kDeviation, generator);
  normal_(wpe_.weight(), 0.0, kDeviation, generator);
  for (auto& block : blocks_) {
    normal_(block->attn_.c_attn_.weight(), 0.0, kDeviation, generator);
    normal_(block->attn_.c_proj_.weight(), 0.0, residual, generator);
    normal_(block->mlp_.c_fc_.weight(), 0.0, kDeviation, generator);
    normal_(block->mlp_.c_proj_.weight(), 0.0, residual, generator);
  }
}

Tensor GPT::trunk(const Tensor& tokens) {
  if (tokens.dim() != 2) {
    fail<InvalidArgument>("GPT: tokens have shape (batch, time), not {}",
                          tensor::to_string(tokens.shape()));
  }
  const auto time = tokens.size(1);
  if (tokens.size(0) < 1 || time < 1 || time > config_.block_size) {
    fail<InvalidArgument>(
        "GPT: tokens {} do not fit: a batch of at least 1 and 1 to {} positions (block_size)",
        tensor::to_string(tokens.shape()), config_.block_size);
  }
  auto positions = wpe_.weight();
  if (time < config_.block_size) positions = positions.narrow(0, 0, time);
  auto x = dropout_.forward(ops::add(wte_.forward(tokens), positions));
  for (const auto& block : blocks_) x = block->forward(x);
  return ln_f_.forward(x);
}

GPTOutput GPT::forward(const Tensor& tokens, const Tensor& targets) {
  if (targets.defined() && targets.shape() != tokens.shape()) {
    fail<InvalidArgument>("GPT: tokens {} and targets {} must have one shape",
                          tensor::to_string(tokens.shape()), tensor::to_string(targets.shape()));
  }
  const Forward scope(*this);
  GPTOutput output;
  output.logits = scope.output(ops::linear(trunk(tokens), wte_.weight()));
  if (targets.defined()) {
    const auto rows = targets.numel();
    output.loss = scope.output(ops::cross_entropy(output.logits.view({rows, config_.vocab_size}),
                                                  targets.reshape({rows})));
  }
  return output;
}

std::int64_t GPT::num_parameters(bool with_positions) const {
  return parameter_count() - (with_positions ? 0 : config_.block_size * config_.n_embd);
}

double GPT::flops_per_token() const {
  const auto head_width = config_.n_embd / config_.n_head;
  const auto attention = 12 * config_.n_layer * config_.n_head * head_width * config_.block_size;
  return 6.0 * static_cast<double>(num_parameters()) + static_cast<double>(attention);
}

void GPT::crop_block_size(std::int64_t block_size) {
  if (block_size < 1 || block_size > config_.block_size) {
    fail<InvalidArgument>("GPT: block_size {} cannot be cropped to {}; choose 1 to {}",
                          config_.block_size, block_size, config_.block_size);
  }
  if (block_size == config_.block_size) return;
  NoGrad no_grad;
  auto& positions = wpe_.weight();
  positions = positions.narrow(0, 0, block_size).clone().detach();
  positions.set_requires_grad(true);
  config_.block_size = block_size;
}

}  // namespace weft::nn
