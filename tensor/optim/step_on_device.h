// Where an optimizer's batch is updated. For this folder only.
#pragma once

#include "kernels/cuda/optimizer.h"
#include "tensor/by_device.h"

namespace weft::optim {

// Calls one of the two; the second with what the step reads from device memory, and the stream.
template <class Batch, class Cpu, class Cuda>
void by_batch_device(const Batch& batch, const Cpu& on_cpu, const Cuda& on_cuda) {
  tensor::by_device(batch.device, on_cpu, [&](kernels::cuda::Stream stream) {
    kernels::cuda::StepOnDevice on_device;
    on_device.learning_rate = batch.rate.template data<double>();
    on_device.step = batch.count.template data<std::int64_t>();
    if (batch.inputs.gradient_scale.defined()) {
      on_device.gradient_scale = batch.inputs.gradient_scale.template data<double>();
    }
    if (batch.inputs.found_inf.defined()) {
      on_device.found_inf = batch.inputs.found_inf.template data<std::int32_t>();
    }
    on_cuda(on_device, stream);
  });
}

}  // namespace weft::optim
