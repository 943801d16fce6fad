// kernels/cross_entropy.h on a CUDA device, and forward and backward in one reading of the logits.
//
// Device pointers on the current device; queued on `stream`, no wait on the host, may be captured
// into a graph. Results repeat to the bit. The loss stays on the device until it is asked for; a
// target that is out of range makes the sum NaN, its row's gradient zero, and is thrown by
// check_faults() (kernels/cuda/faults.h) as the CPU's call throws it.
#pragma once

#include "kernels/cross_entropy.h"
#include "kernels/cuda/stream.h"

namespace weft::kernels::cuda {

// Forward: writes log_sum_exp (not of bad rows) and *loss, which is device memory. The rows' losses
// are summed in f64 in a fixed order.
void cross_entropy(const CrossEntropy& problem, CrossEntropyLoss* loss, Stream stream);

// What the gradient is multiplied by: factor * *gradient / mean_over->counted, each left out where
// it is nullptr. Both are device memory, read by the kernel; nothing counted gives 0.
struct CrossEntropyScale {
  double factor = 1.0;
  DType gradient_type = DType::f32;  // floating
  const void* gradient = nullptr;    // one element
  const CrossEntropyLoss* mean_over = nullptr;
};
// dlogits = (softmax - onehot) * scale, zero for ignored rows; dlogits may be the logits.
void cross_entropy_backward(const CrossEntropy& problem, const CrossEntropyScale& scale,
                            void* dlogits, Stream stream);
void cross_entropy_backward(const CrossEntropy& problem, double scale, void* dlogits,
                            Stream stream);

// Both in one: the logits come from memory once, where a row fits in a block's shared memory
// (about 100 K classes in 16-bit types, 50 K in f32), else a second time from cache.
// scale.mean_over may be `loss`: rows are counted first. log_sum_exp may be nullptr.
void cross_entropy_fused(const CrossEntropy& problem, CrossEntropyLoss* loss,
                         const CrossEntropyScale& scale, void* dlogits, Stream stream);

// *out = loss->sum / loss->counted, 0 where nothing is counted.
void cross_entropy_mean(const CrossEntropyLoss* loss, DType dtype, void* out, Stream stream);

}  // namespace weft::kernels::cuda
