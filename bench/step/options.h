// What `weft step` was asked.
#pragma once

#include <string>

#include "tensor/nn/gpt.h"

namespace weft::bench {

struct StepOptions {
  std::string accelerator = "auto";
  std::string devices;    // empty: as `weft run` says, or 1
  std::string precision;  // empty: as `weft run` says, or 32-true
  bool tf32 = false;      // products of f32 on cuda
  bool graph = false;     // cuda: the step as a CUDA graph
  nn::GPTConfig model;
  std::int64_t batch_size = 4;  // sequences a rank
  int steps = 20;
  int warmup = 5;
  double peak_tflops = 0;  // of the device; 0: measure a matrix product
  std::string json_file;
};

// Exits on --help (0) and on a bad option (2).
StepOptions parse_step_options(int argc, char** argv);

}  // namespace weft::bench
