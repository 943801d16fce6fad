// Layer normalisation over the last dimension (Ba, Kiros, Hinton, 2016), fused forward and
// backward: each row is read from memory once a pass.
//
// All memory is contiguous; f64, f32, f16, bf16; halves compute in f32 and round results once.
// Statistics are of compute_type(dtype). Runs on the current thread pool; results do not depend on
// its size.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"

namespace weft::kernels {

struct LayerNorm {
  DType dtype = DType::f32;
  std::int64_t rows = 0, columns = 0;
  double epsilon = 1e-5;
  const void* x = nullptr;       // (rows, columns)
  const void* weight = nullptr;  // (columns), or nullptr for ones
  const void* bias = nullptr;    // (columns), or nullptr for zeros
  void* y = nullptr;             // (rows, columns)
  void* mean = nullptr;          // (rows), compute_type
  void* rstd = nullptr;          // (rows), compute_type: 1 / sqrt(variance + epsilon)
};
void layer_norm(const LayerNorm& problem);

struct LayerNormBackward {
  DType dtype = DType::f32;
  std::int64_t rows = 0, columns = 0;
  const void* dy = nullptr;      // (rows, columns)
  const void* x = nullptr;       // as given to forward
  const void* weight = nullptr;  // (columns), or nullptr for ones
  const void* mean = nullptr;    // from forward
  const void* rstd = nullptr;
  void* dx = nullptr;       // (rows, columns), or nullptr; may be dy
  void* dweight = nullptr;  // (columns), or nullptr
  void* dbias = nullptr;    // (columns), or nullptr
};
// Writes (does not add to) every gradient asked for, in one pass over dy and x. dweight and dbias
// are summed over fixed blocks of rows, then over the blocks in order.
void layer_norm_backward(const LayerNormBackward& problem);

}  // namespace weft::kernels
