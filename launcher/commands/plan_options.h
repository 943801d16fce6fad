// What `weft plan` was told, checked as far as the command line alone allows.
#pragma once

#include <cstdint>
#include <string>

#include "tensor/nn/gpt_memory.h"
#include "tensor/parallel/memory_plan.h"

namespace CLI {
class App;
}

namespace weft::launcher {

struct PlanOptions {
  std::string params;  // a count instead of a shape: "124M"
  std::string model;   // gpt2, gpt2-medium, gpt2-large, gpt2-xl
  // Of the shape; 0: the model's, or GPT-2's.
  std::int64_t n_layer = 0, n_head = 0, n_embd = 0, vocab_size = 0, block_size = 0;
  double dropout = 0.0;
  bool bias = true;
  std::int64_t batch_size = 12;  // of a rank and micro-batch
  std::int64_t gradient_accumulation_steps = 1;
  std::string strategy = "auto";
  std::string precision = "32-true";
  int ranks = 1;
  int ranks_per_host = 0;  // 0: as the network file says, or 1
  int live_units = 2;
  std::uint64_t memory = 0;  // of a rank; 0: not said
  std::string network_file;
  std::string json_file;
};

void declare_plan_options(CLI::App& app, PlanOptions& options);

// The model that is planned for: a shape, or a mere count of parameters.
struct PlannedModel {
  std::string name;
  bool has_shape = false;
  nn::GPTConfig shape;
  std::vector<Elems> units;
  Elems parameters() const;
};
// What must go together. Throws LaunchError (exit code 2).
PlannedModel model_of(const PlanOptions& options);

// "124M", "1.5B", "70e9", "1000": decimal, at most 2^50. LaunchError names the option.
std::int64_t parse_parameter_count(const std::string& text);

}  // namespace weft::launcher
