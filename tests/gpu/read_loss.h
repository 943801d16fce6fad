// A loss on the device, for tests: waited for, with what a bad target throws.
#pragma once

#include "kernels/cross_entropy.h"
#include "kernels/cuda/faults.h"
#include "kernels/cuda/runtime.h"

namespace weft::kernels::cuda {

inline CrossEntropyLoss read_loss(const CrossEntropyLoss* loss, Stream stream) {
  wait_stream(stream);
  CrossEntropyLoss result;
  copy_to_host(&result, loss, Bytes(sizeof result));
  check_faults();
  return result;
}

}  // namespace weft::kernels::cuda
