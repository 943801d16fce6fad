// Learning rates as functions of the iteration. They hold no state: set the result with
// Optimizer::set_learning_rate() before each step.
#pragma once

#include <cstdint>

namespace weft::optim {

// nanoGPT's: linear warm-up (iteration + 1) / (warmup + 1), then half a cosine down to `min_rate`
// at `decay_iterations`, and `min_rate` after. InvalidArgument on negative rates or decay <
// warm-up.
class CosineSchedule {
 public:
  struct Options {
    double learning_rate = 6e-4;
    double min_rate = 6e-5;
    std::int64_t warmup_iterations = 2000;
    std::int64_t decay_iterations = 600000;
  };
  explicit CosineSchedule(Options options);
  double at(std::int64_t iteration) const;

 private:
  Options options_;
};

// Multiplies by `gamma` every `step_size` iterations.
class StepSchedule {
 public:
  StepSchedule(double learning_rate, std::int64_t step_size, double gamma = 0.1);
  double at(std::int64_t iteration) const;

 private:
  double learning_rate_;
  std::int64_t step_size_;
  double gamma_;
};

}  // namespace weft::optim
