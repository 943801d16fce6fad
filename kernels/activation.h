// GELU (Hendrycks, Gimpel, 2016) and ReLU, and the backward of a linear layer's epilogue.
//
// Contiguous memory; f64, f32, f16, bf16 (halves compute in f32 and round once). Error of the f32
// forms against the exact value: tanh form 4e-7 * (|x| + 1), exact form 4e-7 * (|x| + 1) (the
// normal distribution by Abramowitz, Stegun 7.1.26, |error| <= 7.5e-8, plus rounding); f64 uses
// std::exp and std::erf. NaN stays NaN. Runs on the current thread pool; results do not depend on
// its size.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/base/units.h"

namespace weft::kernels {

enum class GeluKind : bool {
  exact,  // x * Phi(x)
  tanh,   // x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))), GPT-2's
};

// y may be x, dx may be dy.
void gelu(GeluKind kind, DType dtype, Elems count, const void* x, void* y);
void gelu_backward(GeluKind kind, DType dtype, Elems count, const void* dy, const void* x,
                   void* dx);
void relu(DType dtype, Elems count, const void* x, void* y);
// `y` is what relu gave (or its input: only the sign counts).
void relu_backward(DType dtype, Elems count, const void* dy, const void* y, void* dx);

enum class EpilogueActivation : std::uint8_t { none, gelu_tanh, relu };

// Backward of activation(product + bias), in one pass: dx = dy * activation'(saved), and dbias =
// the sum of dx over rows (fixed blocks of rows, then the blocks in order).
struct BiasActivationBackward {
  DType dtype = DType::f32;
  EpilogueActivation activation = EpilogueActivation::none;
  std::int64_t rows = 0, columns = 0;
  const void* dy = nullptr;     // (rows, columns)
  const void* saved = nullptr;  // gelu: what went in; relu: what came out; none: not read
  void* dx = nullptr;           // (rows, columns), may be dy; none: not written
  void* dbias = nullptr;        // (columns), or nullptr
};
void bias_activation_backward(const BiasActivationBackward& problem);

}  // namespace weft::kernels
