// The CUDA twins of kernels/optimizer.h's optimizer steps: one pass over parameters, gradients and
// state of a whole list, low-precision copies included. Bit for bit what the CPU does where it has
// fused multiply-add.
//
// Pointers are to memory of the current device, aligned to their elements; work is queued on
// `stream` and nothing waits for it. Errors: InvalidArgument as on the CPU and for a misaligned
// pointer, Unsupported where there is no device.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/cuda/stream.h"
#include "kernels/optimizer.h"

namespace weft::kernels::cuda {

// What a step reads from device memory when it runs, so that a captured graph can be replayed with
// other values and no step waits for the host. nullptr: as the parameters say. The values must not
// change while the step runs.
struct StepOnDevice {
  const double* learning_rate = nullptr;
  const std::int64_t* step = nullptr;       // >= 1; for sgd, 1 is the first step
  const double* gradient_scale = nullptr;   // multiplied with the parameters'
  const std::int32_t* found_inf = nullptr;  // not 0: the step leaves everything as it is

  template <class Visit>
  void pointers(const Visit& visit) const {
    visit(learning_rate);
    visit(step);
    visit(gradient_scale);
    visit(found_inf);
  }
};

void adam(std::span<const AdamTensor> tensors, const AdamParams& params, Stream stream = nullptr);
void adam(std::span<const AdamTensor> tensors, const AdamParams& params,
          const StepOnDevice& on_device, Stream stream = nullptr);
void sgd(std::span<const SgdTensor> tensors, const SgdParams& params, Stream stream = nullptr);
void sgd(std::span<const SgdTensor> tensors, const SgdParams& params, const StepOnDevice& on_device,
         Stream stream = nullptr);

// Adds 1 to *step, a number of StepOnDevice, unless *found_inf says that the step is skipped.
// Before the step; *step starts as 0.
void advance_step(std::int64_t* step, const std::int32_t* found_inf, Stream stream = nullptr);

}  // namespace weft::kernels::cuda
