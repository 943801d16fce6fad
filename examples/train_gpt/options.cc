#include "examples/train_gpt/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <iostream>

namespace train_gpt {
namespace {

// --batch_size, and --batch-size for those who type it so.
std::string both_spellings(const std::string& name) {
  auto dashed = name;
  std::replace(dashed.begin(), dashed.end(), '_', '-');
  return dashed == name ? "--" + name : "--" + name + ",--" + dashed;
}

template <class T>
CLI::Option* add(CLI::App& app, const std::string& name, T& value, const std::string& help) {
  return app.add_option(both_spellings(name), value, help)->capture_default_str()->take_last();
}

const auto kPositive = CLI::Range(std::int64_t{1}, std::int64_t{1} << 40);
const auto kNotNegative = CLI::Range(std::int64_t{0}, std::int64_t{1} << 40);
const auto kShare = CLI::Range(0.0, 1.0);

void declare_data_and_model(CLI::App& app, Options& o) {
  add(app, "data", o.data,
      "A text file or a directory of them; with --tokenizer bin, token files (llm.c's .bin): a "
      "file, "
      "a directory, a pattern, or several with commas between them");
  add(app, "tokenizer", o.tokenizer, "How text becomes tokens")
      ->check(CLI::IsMember({"char", "byte", "bin"}));
  add(app, "val_data", o.val_data,
      "Token files to validate on (with --tokenizer bin); else a tenth of --data");
  add(app, "init_from", o.init_from,
      "scratch, resume (from --out_dir), or FILE.safetensors with GPT-2's names");
  add(app, "n_layer", o.model.n_layer, "Transformer blocks")->check(kPositive);
  add(app, "n_head", o.model.n_head, "Attention heads a block")->check(kPositive);
  add(app, "n_embd", o.model.n_embd, "Width")->check(kPositive);
  add(app, "block_size", o.model.block_size, "Context, tokens")->check(kPositive);
  add(app, "dropout", o.model.dropout, "Dropout probability")->check(CLI::Range(0.0, 0.999));
  add(app, "bias", o.model.bias, "Biases in linear and norm layers: True or False");
}

void declare_optimisation(CLI::App& app, Options& o) {
  add(app, "batch_size", o.batch_size, "Sequences a rank and micro-batch")->check(kPositive);
  add(app, "gradient_accumulation_steps", o.gradient_accumulation_steps, "Micro-batches a step")
      ->check(kPositive);
  add(app, "max_iters", o.max_iters, "Steps to train")->check(kNotNegative);
  add(app, "order", o.order,
      "Of the data: random places, or epoch: each window of block_size tokens once an epoch")
      ->check(CLI::IsMember({"random", "epoch"}));
  add(app, "max_epochs", o.max_epochs, "With --order epoch: stop after so many (0: --max_iters)")
      ->check(kNotNegative);
  add(app, "lr_decay_iters", o.lr_decay_iters,
      "Step at which the rate reaches min_lr (-1: max_iters)");
  add(app, "warmup_iters", o.warmup_iters, "Steps of linear warm-up")->check(kNotNegative);
  add(app, "learning_rate", o.learning_rate, "Largest learning rate")
      ->check(CLI::NonNegativeNumber);
  add(app, "min_lr", o.min_lr, "Smallest learning rate (-1: a tenth of the largest)");
  add(app, "weight_decay", o.weight_decay, "AdamW's, of matrices and embeddings")
      ->check(CLI::NonNegativeNumber);
  add(app, "beta1", o.beta1, "AdamW's")->check(kShare);
  add(app, "beta2", o.beta2, "AdamW's")->check(kShare);
  add(app, "grad_clip", o.grad_clip, "Largest gradient norm (0: do not clip)")
      ->check(CLI::NonNegativeNumber);
  add(app, "seed", o.seed, "Of initial values, batches, dropout and the sample");
}

void declare_output(CLI::App& app, Options& o) {
  add(app, "eval_interval", o.eval_interval, "Steps between validations and checkpoints")
      ->check(kPositive);
  add(app, "eval_iters", o.eval_iters, "Batches a validation")->check(kPositive);
  add(app, "eval_only", o.eval_only, "Validate and stop: True or False");
  add(app, "log_interval", o.log_interval, "Steps between lines")->check(kPositive);
  add(app, "log_json", o.log_json, "File that gets one JSON object an iteration");
  add(app, "out_dir", o.out_dir, "Where checkpoints go");
  add(app, "checkpoint", o.checkpoint,
      "single: rank 0 writes files of the whole state; sharded: all ranks write; auto: single")
      ->check(CLI::IsMember({"auto", "single", "sharded"}));
  add(app, "async_checkpoint", o.async_checkpoint,
      "Write while training goes on (implies sharded): True or False");
  add(app, "keep_last", o.keep_last, "Newest checkpoints that stay (0: all)")->check(kNotNegative);
  add(app, "sample_tokens", o.sample_tokens, "Length of the sample at the end")
      ->check(kNotNegative);
  add(app, "temperature", o.temperature, "Of the sample (0: the likeliest tokens)")
      ->check(CLI::NonNegativeNumber);
  add(app, "grad_compression", o.grad_compression, "What gradients travel as between ranks")
      ->check(CLI::IsMember({"none", "bf16", "fp16", "int8"}));
  add(app, "precision", o.precision, "Numbers to compute with (default: 32-true)")
      ->check(CLI::IsMember({"16-mixed", "bf16-mixed", "32-true", "64-true", "16-true", "bf16-true",
                             "64", "32", "16", "bf16"}));
  add(app, "strategy", o.strategy,
      "How ranks share the work: ddp, deepspeed_stage_1, _2, _3, fsdp, ... (default: ddp)");
  add(app, "tf32", o.tf32, "On cuda, products of f32 may round their factors: True or False");
  add(app, "graph", o.graph, "On cuda, steps are launches of a CUDA graph: True or False");
  add(app, "devices", o.devices, "Ranks to start, when not started by weft run (default 1)");
  add(app, "accelerator", o.accelerator,
      "What they train on, when not started by weft run (default auto)")
      ->check(CLI::IsMember({"auto", "cpu", "cuda", "gpu"}));
}

}  // namespace

Options parse_options(int argc, char** argv) {
  Options options;
  CLI::App app("Trains a GPT on text, on as many ranks as it is started with.", "train_gpt");
  declare_data_and_model(app, options);
  declare_optimisation(app, options);
  declare_output(app, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error) == 0 ? 0 : 2);
  }
  for (const char* name : {"n_layer", "n_head", "n_embd", "block_size", "bias", "order"}) {
    if (app.count(std::string("--") + name) > 0) options.given.insert(name);
  }
  for (const double value :
       {options.learning_rate, options.min_lr, options.weight_decay, options.grad_clip,
        options.temperature, options.beta1, options.beta2, options.model.dropout}) {
    if (std::isfinite(value)) continue;
    std::cerr << "train_gpt: options must be finite numbers; one of them is " << value << '\n';
    std::exit(2);
  }
  if (options.lr_decay_iters < 0)
    options.lr_decay_iters = std::max(options.max_iters, options.warmup_iters);
  if (options.lr_decay_iters < options.warmup_iters) {
    std::cerr << "train_gpt: --lr_decay_iters " << options.lr_decay_iters
              << " is before the end of the warm-up, " << options.warmup_iters
              << ": lower --warmup_iters or raise --lr_decay_iters\n";
    std::exit(2);
  }
  if (options.min_lr < 0) options.min_lr = options.learning_rate / 10;
  return options;
}

}  // namespace train_gpt
