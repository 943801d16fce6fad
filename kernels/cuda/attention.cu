// Host side: what is refused, and which kernels run.
#include "kernels/cuda/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "kernels/cuda/attention_args.cuh"
#include "kernels/cuda/scratch.h"
#include "kernels/cuda/status.h"

namespace weft::kernels::cuda {
namespace {

constexpr std::int64_t kTensorCoreWidthMax = 128;
constexpr std::int64_t kWidthMax = 256;
// Positions are 32-bit numbers in a kernel, and so is the number of its blocks.
constexpr std::int64_t kLengthMax = std::numeric_limits<int>::max() / 2;
constexpr std::int64_t kSmallestTile = 16;
constexpr std::int64_t kHeadsMax = std::numeric_limits<int>::max() / (3 * kWidthMax);

void check_problem(const CausalAttention& p) {
  const auto told = [&] {
    return "CUDA causal_attention: batch=" + std::to_string(p.batch) +
           " length=" + std::to_string(p.length) + " heads=" + std::to_string(p.heads) +
           " width=" + std::to_string(p.width);
  };
  if (!is_floating(p.dtype)) {
    refuse("CUDA causal_attention: expected f64, f32, f16 or bf16, found an integer type.");
  }
  if (p.batch < 0 || p.length < 0 || p.heads < 1 || p.width < 1) {
    refuse(told() + ": expected batch and length of at least 0, heads and width of at least 1.");
  }
  if (p.width > kWidthMax) {
    unsupported(told() + ": heads wider than " + std::to_string(kWidthMax) +
                " have no CUDA kernel; use more heads, or the CPU.");
  }
  if (p.heads > kHeadsMax || p.length > kLengthMax ||
      static_cast<double>(p.batch) * static_cast<double>(p.heads) *
              std::ceil(static_cast<double>(p.length) / kSmallestTile) >
          std::numeric_limits<int>::max()) {
    unsupported(told() + ": more than one launch of a CUDA kernel can do; split the batch.");
  }
}

AttentionArgs args_of(const CausalAttention& p, const void* dout, void* dqkv) {
  AttentionArgs args;
  args.qkv = p.qkv, args.out = p.out, args.log_sum_exp = p.log_sum_exp;
  args.dout = dout, args.dqkv = dqkv;
  args.all_heads = p.batch * p.heads;
  args.length = static_cast<int>(p.length);
  args.heads = static_cast<int>(p.heads), args.width = static_cast<int>(p.width);
  const auto bits = reinterpret_cast<std::uintptr_t>(p.qkv) |
                    reinterpret_cast<std::uintptr_t>(p.out) |
                    reinterpret_cast<std::uintptr_t>(dout) | reinterpret_cast<std::uintptr_t>(dqkv);
  args.aligned = bits % 16 == 0 && p.width * size_of(p.dtype).value % 16 == 0;
  args.scale = 1.0 / std::sqrt(static_cast<double>(p.width));
  const DropoutMask& mask = p.dropout;
  if (mask.probability > 0.0) {
    args.dropout = true;
    args.threshold = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(dropout_threshold(mask.probability), 0xffffffffu));
    args.kept = mask.probability < 1.0 ? 1.0 / (1.0 - mask.probability) : 0.0;
    args.seed = mask.seed, args.stream = mask.stream, args.advance = mask.advance;
    args.first_block = (mask.offset + Philox::kWords - 1) / Philox::kWords;
    args.row_blocks = static_cast<std::uint64_t>((p.length + Philox::kWords - 1) / Philox::kWords);
  }
  return args;
}

template <class T, class R>
void backward(AttentionArgs args, Stream stream) {
  const Scratch dots(Bytes(args.all_heads * args.length * static_cast<std::int64_t>(sizeof(R))),
                     stream);
  args.dot = dots.data();
  if constexpr (sizeof(T) == 2) {
    if (args.width <= kTensorCoreWidthMax) {
      attention_backward_queries<T>(args, stream);
      attention_backward_keys<T>(args, stream);
      return;
    }
  }
  attention_plain_backward<T>(args, stream);
}

template <class T>
void forward(const AttentionArgs& args, Stream stream) {
  if constexpr (sizeof(T) == 2) {
    if (args.width <= kTensorCoreWidthMax) return attention_forward<T>(args, stream);
  }
  attention_plain_forward<T>(args, stream);
}

}  // namespace

void causal_attention(const CausalAttention& p, Stream stream) {
  check_problem(p);
  if (p.batch == 0 || p.length == 0) return;
  const AttentionArgs args = args_of(p, nullptr, nullptr);
  if (p.dtype == DType::f64) return forward<double>(args, stream);
  if (p.dtype == DType::f16) return forward<Half>(args, stream);
  if (p.dtype == DType::bf16) return forward<BFloat16>(args, stream);
  forward<float>(args, stream);
}

void causal_attention_backward(const CausalAttention& p, const void* dout, void* dqkv,
                               Stream stream) {
  check_problem(p);
  if (p.batch == 0 || p.length == 0) return;
  const AttentionArgs args = args_of(p, dout, dqkv);
  if (p.dtype == DType::f64) return backward<double, double>(args, stream);
  if (p.dtype == DType::f16) return backward<Half, float>(args, stream);
  if (p.dtype == DType::bf16) return backward<BFloat16, float>(args, stream);
  backward<float, float>(args, stream);
}

}  // namespace weft::kernels::cuda
