// The loss scale (kernels/loss_scale.h) as a state in device memory, where unscale_and_check() and
// optimizer steps read it (kernels/cuda/multi_tensor.h). Nothing here waits for the device.
//
// Pointers are to memory of the current device. Errors: InvalidArgument for a null or misaligned
// one, Unsupported where there is no device.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"
#include "kernels/loss_scale.h"

namespace weft::kernels::cuda {

void set_loss_scale(LossScale* state, const LossScale& value, Stream stream = nullptr);
// kernels/loss_scale.h's rule.
void update_loss_scale(LossScale* state, const LossScaleParams& params = {},
                       Stream stream = nullptr);
// kernels/loss_scale.h's; the factor goes to *factor, where that is not nullptr.
void carry_loss_scale(LossScale* carried, bool unscaled, const LossScale* present,
                      double* factor = nullptr, Stream stream = nullptr);
// state->found_inf is set where that of `other` is.
void merge_found_inf(LossScale* state, const LossScale* other, Stream stream = nullptr);

}  // namespace weft::kernels::cuda
