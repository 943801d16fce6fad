// Matrix products on the current CUDA device, through cuBLASLt: the twins of kernels/gemm.h, and
// the products of a backward pass with what stands around them.
//
// Row-major matrices in device memory, queued on a stream, no wait on the host; may be captured
// into a CUDA graph. f64; f32, with TF32 only where it is allowed; f16 and bf16 accumulate in f32.
// One problem on one kind of device always runs the same algorithm, and none that adds up in an
// order of chance, so that results repeat to the bit. Any number of threads may call.
//
// libcublasLt is opened when first needed (WEFT_CUBLASLT names another file), so that programs
// start without it. Errors: as the CPU's; Unsupported where the library or an algorithm is missing.
#pragma once

#include <string>

#include "kernels/cuda/stream.h"
#include "kernels/gemm.h"

namespace weft::kernels::cuda {

// Epilogues are fused where cuBLASLt can (16-bit types and f32, n a multiple of 8), else one more
// pass over C follows, which rounds C once more.
void gemm(const Gemm& problem, Epilogue epilogue, const void* bias, void* pre_activation,
          Stream stream);
void gemm_batched(const Gemm& problem, std::int64_t batch, std::int64_t stride_a,
                  std::int64_t stride_b, std::int64_t stride_c, Stream stream);

// Which sums a backward product leaves beside C.
enum class BiasGradient : std::uint8_t {
  none,
  of_c,  // n sums over the rows of C, after GELU's backward: that of the layer below
  of_a,  // m sums over the inner dimension of op(A)
  of_b,  // n sums over the inner dimension of op(B): in dW = x' dy, that of dy
};

struct GemmGradient {
  const void* pre_activation = nullptr;  // (m, n), ld = n: C *= gelu'(it), tanh form
  BiasGradient bias_gradient = BiasGradient::none;
  void* dbias = nullptr;  // written, not added to
};
// of_a and of_b go with pre_activation == nullptr only.
void gemm_backward(const Gemm& problem, const GemmGradient& gradient, Stream stream);

// Whether f32 products may round their factors to TF32 (10 bits of mantissa), for several times
// the speed. For the whole process; off at the start.
void allow_tf32(bool allowed);
bool tf32_allowed();

// Why gemm cannot run here; empty where it can. Never throws.
std::string reason_for_no_gemm();

}  // namespace weft::kernels::cuda
