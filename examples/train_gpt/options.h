// The command line of train_gpt: nanoGPT's names, and a few of our own.
#pragma once

#include <cstdint>
#include <set>
#include <string>

#include "tensor/nn/gpt.h"

namespace train_gpt {

struct Options {
  // data
  std::string data = ".";
  std::string tokenizer = "char";  // char, byte, bin
  std::string val_data;            // bin only: a token file for validation; else a tenth of --data
  // model
  weft::nn::GPTConfig model{
      .block_size = 64, .vocab_size = 0, .n_layer = 4, .n_head = 4, .n_embd = 128};
  std::string init_from = "scratch";  // scratch, resume, FILE.safetensors
  // optimisation
  std::int64_t batch_size = 12;  // a rank and micro-batch
  std::int64_t gradient_accumulation_steps = 1;
  std::int64_t max_iters = 2000;
  std::string order = "random";      // of windows: random, epoch
  std::int64_t max_epochs = 0;       // epoch: to train, if max_iters does not end it first; 0: any
  std::int64_t lr_decay_iters = -1;  // -1: max_iters
  std::int64_t warmup_iters = 100;
  double learning_rate = 1e-3;
  double min_lr = -1;  // -1: learning_rate / 10
  double weight_decay = 0.1;
  double beta1 = 0.9;
  double beta2 = 0.99;
  double grad_clip = 1.0;  // 0: none
  // evaluation and output
  std::int64_t eval_interval = 250;
  std::int64_t eval_iters = 20;
  bool eval_only = false;
  std::int64_t log_interval = 10;
  std::string log_json;
  std::string out_dir = "out";
  std::string checkpoint = "auto";  // single, sharded; auto: as the strategy holds its state
  bool async_checkpoint = false;    // written while training goes on; sharded
  int keep_last = 2;                // checkpoints that stay; 0: all
  std::int64_t sample_tokens = 300;
  double temperature = 0.8;
  std::uint64_t seed = 1337;
  // Which of the model's options, and --order, were typed: a checkpoint that says otherwise is an
  // error then.
  std::set<std::string> given;
  std::string devices;      // ranks, when started plainly
  std::string accelerator;  // likewise: cpu, cuda, auto
  std::string strategy;     // empty: what weft run was told, or ddp
  std::string grad_compression = "none";
  std::string precision;  // empty: what weft run was told, or 32-true
  bool tf32 = false;      // products of f32 on cuda
  bool graph = false;     // on cuda: the step as a CUDA graph
};

// Exits on --help (0) and on a bad option (2, with the choices), as command lines do.
Options parse_options(int argc, char** argv);

}  // namespace train_gpt
