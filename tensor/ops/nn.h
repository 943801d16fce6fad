// The operators of neural networks, each fused forward and backward (kernels/*.h holds the
// arithmetic). f32 and f64; f16 and bf16 tensors compute in f32 and round their results once.
// InvalidArgument names operation and shapes.
#pragma once

#include <cstdint>

#include "tensor/random.h"
#include "tensor/tensor.h"

namespace weft::tensor::ops {

enum class WeightLayout : bool {
  out_in,  // (out, in), PyTorch's Linear
  in_out,  // (in, out), GPT-2's Conv1D
};
enum class Activation : std::uint8_t { none, gelu, relu };

// x (..., in) -> (..., out); bias (out) or undefined. gelu is the tanh form, as GPT-2 uses, fused
// with the product.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {},
              WeightLayout layout = WeightLayout::out_in, Activation activation = Activation::none);

// Over the last dimension; weight and bias (last) or undefined. Ba, Kiros, Hinton, 2016.
Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon = 1e-5);

enum class GeluForm : bool { exact, tanh };
Tensor gelu(const Tensor& x, GeluForm form = GeluForm::tanh);  // Hendrycks, Gimpel, 2016

// Multi-head causal self-attention on packed projections: qkv (B, T, 3C), heads along C; gives (B,
// T, C). Never keeps the T x T matrix: backward recomputes probabilities from the saved log-sum-exp
// (Dao et al., FlashAttention, 2022). Dropout is of probabilities, its mask drawn again in
// backward; generator nullptr: default_generator().
Tensor causal_attention(const Tensor& qkv, std::int64_t heads, double dropout = 0.0,
                        Generator* generator = nullptr);

Tensor softmax(const Tensor& x, std::int64_t dim = -1);
Tensor log_softmax(const Tensor& x, std::int64_t dim = -1);

// logits (..., classes), targets (...) i32 or i64; mean over targets that are not `ignore_index`,
// 0 when all are. Forward and backward in one pass each; the gradient is written over a buffer of
// logits' size once. A target outside [0, classes) is InvalidArgument; on CUDA, where nothing waits
// for the device, the loss is NaN and whatever waits next (item(), to_vector(), to(cpu),
// Stream::synchronize()) throws. The same holds for embedding()'s indices (rows of zeros).
Tensor cross_entropy(const Tensor& logits, const Tensor& targets, std::int64_t ignore_index = -1);

// weight (entries, width), indices (...) i32 or i64 -> (..., width). An index out of range is
// InvalidArgument.
Tensor embedding(const Tensor& weight, const Tensor& indices);

// Zeroes with probability p and scales the rest by 1/(1-p). The mask is drawn again in backward,
// not stored.
Tensor dropout(const Tensor& x, double p, Generator& generator);

// x (N, C, H, W), weight (out, C, kh, kw), bias (out) or undefined. Sizes round down, as PyTorch's.
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias = {},
              std::int64_t stride = 1, std::int64_t padding = 0);
// Over windows of kernel x kernel; stride 0: the kernel's. padding <= kernel / 2; the maximum never
// comes from padding, the average counts it as zeros.
Tensor max_pool2d(const Tensor& x, std::int64_t kernel, std::int64_t stride = 0,
                  std::int64_t padding = 0);
Tensor avg_pool2d(const Tensor& x, std::int64_t kernel, std::int64_t stride = 0,
                  std::int64_t padding = 0);

}  // namespace weft::tensor::ops
