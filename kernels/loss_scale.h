// Dynamic loss scaling: a state that the CPU keeps in ordinary memory and CUDA in device memory
// (kernels/cuda/multi_tensor.h), and the rule that moves it on, PyTorch's GradScaler's.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/base/half.h"

namespace weft::kernels {

struct LossScale {
  float scale = 65536.0f;        // what the loss is multiplied with
  std::int32_t clean_steps = 0;  // since the scale last changed
  std::int32_t found_inf = 0;    // not 0: this step's gradients are not finite, and it is skipped
  std::int32_t skipped = 0;      // steps of all
  std::int32_t lost = 0;         // of those, steps under the smallest scale: nothing can help them
};

struct LossScaleParams {
  double growth_factor = 2.0;  // after growth_interval clean steps in a row
  double backoff_factor = 0.5;
  std::int32_t growth_interval = 2000;
  double minimum = 1.0;  // DeepSpeed's: backing off ends here
};

// Once a step, after the optimizer: backs off if found_inf is set, else counts a clean step and
// grows when it is time (never to infinity). Clears found_inf.
WEFT_HD inline void update_loss_scale(LossScale& state, const LossScaleParams& params) {
  const auto factor = [&state](double by) {
    return static_cast<float>(static_cast<double>(state.scale) * by);
  };
  if (state.found_inf != 0) {
    const float less = factor(params.backoff_factor);
    const auto least = static_cast<float>(params.minimum);
    if (!(state.scale > least)) ++state.lost;
    state.scale = less > least ? less : least;
    state.clean_steps = 0;
    ++state.skipped;
  } else if (++state.clean_steps >= params.growth_interval) {
    const float more = factor(params.growth_factor);
    if (std::isfinite(more)) state.scale = more;
    state.clean_steps = 0;
  }
  state.found_inf = 0;
}

// Gradients under the scale of `carried` (under 1 where they were `unscaled` since) are brought to
// the present one by this factor; `carried` is the present scale from then on, with nothing found.
WEFT_HD inline double carry_loss_scale(LossScale& carried, bool unscaled,
                                       const LossScale& present) {
  const double before = unscaled ? 1.0 : static_cast<double>(carried.scale);
  carried = LossScale{};
  carried.scale = present.scale;
  return static_cast<double>(present.scale) / before;
}

}  // namespace weft::kernels
