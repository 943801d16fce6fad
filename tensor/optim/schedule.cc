#include "tensor/optim/schedule.h"

#include <cmath>
#include <numbers>

#include "kernels/base/error.h"

namespace weft::optim {
namespace {

bool is_rate(double rate) { return std::isfinite(rate) && rate >= 0.0; }

}  // namespace

CosineSchedule::CosineSchedule(Options options) : options_(options) {
  if (!is_rate(options.learning_rate) || !is_rate(options.min_rate)) {
    fail<InvalidArgument>(
        "CosineSchedule: learning_rate {} and min_lr {} must be finite and at least 0",
        options.learning_rate, options.min_rate);
  }
  if (options.warmup_iterations < 0 || options.decay_iterations < options.warmup_iterations) {
    fail<InvalidArgument>(
        "CosineSchedule: expected 0 <= warmup_iters <= lr_decay_iters, found {} and {}",
        options.warmup_iterations, options.decay_iterations);
  }
}

double CosineSchedule::at(std::int64_t iteration) const {
  const auto& o = options_;
  if (iteration < o.warmup_iterations) {
    return o.learning_rate * static_cast<double>(iteration + 1) /
           static_cast<double>(o.warmup_iterations + 1);
  }
  if (iteration > o.decay_iterations) return o.min_rate;
  const auto span = o.decay_iterations - o.warmup_iterations;
  if (span == 0) return o.learning_rate;
  const double ratio =
      static_cast<double>(iteration - o.warmup_iterations) / static_cast<double>(span);
  const double coefficient = 0.5 * (1.0 + std::cos(std::numbers::pi * ratio));
  return o.min_rate + coefficient * (o.learning_rate - o.min_rate);
}

StepSchedule::StepSchedule(double learning_rate, std::int64_t step_size, double gamma)
    : learning_rate_(learning_rate), step_size_(step_size), gamma_(gamma) {
  if (!is_rate(learning_rate) || step_size < 1 || !is_rate(gamma)) {
    fail<InvalidArgument>(
        "StepSchedule: expected learning_rate >= 0, step_size >= 1 and gamma >= 0, found {}, {} "
        "and {}",
        learning_rate, step_size, gamma);
  }
}

double StepSchedule::at(std::int64_t iteration) const {
  return learning_rate_ * std::pow(gamma_, static_cast<double>(iteration / step_size_));
}

}  // namespace weft::optim
