// One product as cuBLASLt knows it: description, algorithm and workspace. Shared by gemm.cc.
#pragma once

#include <compare>
#include <cstdint>

#include "kernels/cuda/gemm.h"
#include "kernels/cuda/stream.h"

namespace weft::kernels::cuda {

// What follows the product in the same kernel.
enum class Fusion : std::uint8_t {
  none,
  bias,
  bias_gelu,
  bias_gelu_kept,  // the pre-activation is stored
  gelu_backward,
  gelu_backward_bias,  // and the sums over the rows of C
  sums_of_a,
  sums_of_b,
};

struct Product {
  Gemm gemm;
  std::int64_t batch = 1, stride_a = 0, stride_b = 0, stride_c = 0;
  Fusion fusion = Fusion::none;
  const void* vector = nullptr;  // the bias, or where sums go
  const void* matrix = nullptr;  // pre-activation
};

// Queues it; false where cuBLASLt has no algorithm for it. m, n, k, batch > 0.
bool run_product(const Product& product, Stream stream);

}  // namespace weft::kernels::cuda
