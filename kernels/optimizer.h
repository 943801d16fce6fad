// Fused optimizer steps and norms over lists of flat tensors: one pass over parameters, gradients
// and state. Each runs on the current thread pool. Pointers are to contiguous memory of `count`
// elements.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/base/dtype.h"
#include "kernels/base/units.h"

namespace weft::kernels {

struct AdamParams {
  double learning_rate = 1e-3;
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  double weight_decay = 0.0;
  bool decoupled = true;        // AdamW; false: weight decay is added to the gradient (Adam)
  std::int64_t step = 1;        // 1 on the first call: bias correction
  double gradient_scale = 1.0;  // multiplies every gradient first (clipping, unscaling)
};

struct AdamTensor {
  void* parameter = nullptr;       // f32 or f64, updated
  const void* gradient = nullptr;  // f32, f64, f16 or bf16
  void* exp_avg = nullptr;         // of the parameter's type
  void* exp_avg_sq = nullptr;
  void* low_precision_copy = nullptr;  // f16 or bf16 copy of the updated parameter, or nullptr
  Elems count;
  DType parameter_type = DType::f32;
  DType gradient_type = DType::f32;
  DType copy_type = DType::bf16;
};
void adam(std::span<const AdamTensor> tensors, const AdamParams& params);

struct SgdParams {
  double learning_rate = 1e-2;
  double momentum = 0.0, dampening = 0.0, weight_decay = 0.0;
  bool nesterov = false;
  bool first_step = true;  // momentum buffer starts as the gradient
  double gradient_scale = 1.0;
};
struct SgdTensor {
  void* parameter = nullptr;
  const void* gradient = nullptr;
  void* momentum = nullptr;  // nullptr when momentum == 0
  Elems count;
  DType parameter_type = DType::f32;
  DType gradient_type = DType::f32;
  void* low_precision_copy = nullptr;  // as in AdamTensor
  DType copy_type = DType::bf16;
};
void sgd(std::span<const SgdTensor> tensors, const SgdParams& params);

struct FlatTensor {
  void* data = nullptr;
  Elems count;
  DType dtype = DType::f32;
};
// Sum of squares over all elements of all tensors, accumulated in f64 in an order that depends on
// the shapes alone (kernels/functors/norm.h).
double squared_norm(std::span<const FlatTensor> tensors);
void scale(std::span<const FlatTensor> tensors, double factor);
// Multiplies by 1/scale (the reciprocal taken in f64) and tells, from the same pass, whether any
// element was not finite.
bool unscale_and_check(std::span<const FlatTensor> tensors, double scale);

}  // namespace weft::kernels
