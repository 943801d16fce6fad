// GPT-2 as nanoGPT and Hugging Face's GPT2LMHeadModel have it: learned positions, norm before each
// part, GELU (tanh form), output head tied to the token embedding.
//
// Names and layouts are Hugging Face's, so that state dicts can be exchanged:
// transformer.wte.weight (vocabulary, width), transformer.wpe.weight, transformer.h.N.{ln_1,
// attn.c_attn, attn.c_proj, ln_2, mlp.c_fc, mlp.c_proj}.{weight, bias} with weights (in, out),
// transformer.ln_f. The head is not stored; lm_head.weight is accepted where it equals the
// embedding, names without "transformer." and the masks that older files hold (attn.bias,
// attn.masked_bias) are understood.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "tensor/nn/layers.h"

namespace weft::nn {

struct GPTConfig {
  std::int64_t block_size = 1024;   // longest context, tokens
  std::int64_t vocab_size = 50304;  // GPT-2's 50257, rounded up
  std::int64_t n_layer = 12;
  std::int64_t n_head = 12;
  std::int64_t n_embd = 768;
  double dropout = 0.0;
  bool bias = true;  // in Linear and LayerNorm

  void validate() const;  // InvalidArgument names the option and its value
};

// The configuration a state dict was written with. Heads cannot be seen in shapes: `n_head`, else
// GPT-2's 64 channels a head. Mismatch where it is no GPT-2, naming `source`.
GPTConfig infer_gpt_config(const StateDict& state, std::optional<std::int64_t> n_head,
                           const std::string& source);

class MLP : public Layer {
 public:
  explicit MLP(const GPTConfig& config);

 protected:
  Tensor compute(const Tensor& x) override;

 private:
  friend class GPT;
  Linear c_fc_, c_proj_;
  Dropout dropout_;
};

class CausalSelfAttention : public Layer {  // (B, T, C) -> (B, T, C)
 public:
  explicit CausalSelfAttention(const GPTConfig& config);

 protected:
  Tensor compute(const Tensor& x) override;

 private:
  friend class GPT;
  std::int64_t n_head_;
  double dropout_;
  Linear c_attn_, c_proj_;
  Dropout residual_dropout_;
};

class Block : public Layer {
 public:
  explicit Block(const GPTConfig& config);

 protected:
  Tensor compute(const Tensor& x) override;

 private:
  friend class GPT;
  LayerNorm ln_1_;
  CausalSelfAttention attn_;
  LayerNorm ln_2_;
  MLP mlp_;
};

struct GPTOutput {
  Tensor logits;  // (B, T, vocabulary)
  Tensor loss;    // scalar; undefined without targets
};

struct GenerateOptions {
  double temperature = 1.0;        // 0: always the likeliest token
  std::int64_t top_k = 0;          // draw among the k likeliest; 0: among all
  Generator* generator = nullptr;  // none: this thread's default
};

class GPT : public Module {
 public:
  // Weights normal(0, 0.02), those of c_proj normal(0, 0.02 / sqrt(2 n_layer)), biases 0, norms 1.
  explicit GPT(const GPTConfig& config, Generator* generator = nullptr);

  // tokens (B, T), 0 < T <= block_size, i32 or i64; targets of the same shape, -1 where none.
  GPTOutput forward(const Tensor& tokens, const Tensor& targets = {});
  // (B, T) -> (B, T + max_new_tokens) i64. Draws one number a row and token. No gradients; dropout
  // is off meanwhile.
  Tensor generate(const Tensor& prompt, std::int64_t max_new_tokens,
                  const GenerateOptions& options = {});

  const GPTConfig& config() const { return config_; }
  // Without position embeddings by default, as nanoGPT counts.
  std::int64_t num_parameters(bool with_positions = false) const;
  // Forward and backward: 6P + 12 L H Q T (Chowdhery et al., PaLM, 2022, appendix B).
  double flops_per_token() const;
  // Drops the positions from `block_size` on. Make optimizers afterwards.
  void crop_block_size(std::int64_t block_size);

 protected:
  void adapt_state_dict(StateDict& given) const override;

 private:
  void initialize(Generator& generator);
  Tensor trunk(const Tensor& tokens);  // (B, T, C), normalised

  GPTConfig config_;
  Embedding wte_, wpe_;
  Dropout dropout_;
  std::vector<std::unique_ptr<Block>> blocks_;
  LayerNorm ln_f_;
};

// Draws a token from unnormalised log-probabilities. InvalidArgument where they are not finite or
// the options make no sense.
std::int64_t sample_token(std::span<const double> logits, const GenerateOptions& options);

}  // namespace weft::nn
