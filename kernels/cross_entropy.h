// Softmax cross entropy on class indices, fused: forward reads the logits once and keeps one
// number a row; backward writes the gradient once.
//
// Contiguous memory; logits f64, f32, f16, bf16 (halves compute in f32), targets i32 or i64. Runs
// on the current thread pool; results do not depend on its size.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"

namespace weft::kernels {

struct CrossEntropy {
  DType dtype = DType::f32;
  DType target_type = DType::i64;
  std::int64_t rows = 0, classes = 0;
  const void* logits = nullptr;   // (rows, classes)
  const void* targets = nullptr;  // (rows), each in [0, classes) or ignore_index
  std::int64_t ignore_index = -1;
  void* log_sum_exp = nullptr;  // (rows), compute_type: forward writes, backward reads
};

struct CrossEntropyLoss {
  double sum = 0.0;          // over counted rows, in row order
  std::int64_t counted = 0;  // rows whose target is not ignore_index
};
// InvalidArgument names the first row whose target is out of range; log_sum_exp is untouched then.
CrossEntropyLoss cross_entropy(const CrossEntropy& problem);

// dlogits = (softmax - onehot) * scale, zero for ignored rows.
void cross_entropy_backward(const CrossEntropy& problem, double scale, void* dlogits);

}  // namespace weft::kernels
