// What follows a matrix product while its tile is in cache. f32 or f64, in the calling thread.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"

namespace weft::kernels {

// A tile of `rows` x `columns`; strides in elements between rows.
struct EpilogueTile {
  DType dtype = DType::f32;
  std::int64_t rows = 0, columns = 0;
  void* c = nullptr;
  std::int64_t ldc = 0;
  const void* bias = nullptr;  // `columns` elements
  void* pre_activation = nullptr;
  std::int64_t ld_pre = 0;
};

// c += bias
void add_bias(const EpilogueTile& tile);
// pre_activation = c + bias (where it is not nullptr); c = gelu(c + bias), tanh form.
void add_bias_gelu(const EpilogueTile& tile);

}  // namespace weft::kernels
