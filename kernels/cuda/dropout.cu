// Dropout: a thread draws the Philox blocks that its pack's words lie in.
#include "kernels/cuda/dropout.h"

#include "kernels/cuda/checks.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/map.cuh"
#include "kernels/philox.h"

namespace weft::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::uint64_t kBlockMask = (std::uint64_t{1} << 62) - 1;

// Words first .. first + N - 1 of the stream. All packs of a call begin at the same place in their
// block of four, so the switch is one branch for the whole grid.
template <int N>
__device__ __forceinline__ void draw(const Philox& philox, std::uint64_t first,
                                     std::uint32_t (&words)[N]) {
  constexpr int kBlocks = (N + Philox::kWords - 1) / Philox::kWords + 1;
  std::uint32_t drawn[kBlocks * Philox::kWords];
  const std::uint64_t block = first / Philox::kWords;
  const int shift = static_cast<int>(first % Philox::kWords);
#pragma unroll
  for (int b = 0; b < kBlocks; ++b) {
    if (b * Philox::kWords >= N + shift) break;
    // Words are counted modulo 2^64, so blocks modulo 2^62.
    const Philox::Block four = philox.block((block + static_cast<unsigned>(b)) & kBlockMask);
#pragma unroll
    for (int w = 0; w < Philox::kWords; ++w) drawn[b * Philox::kWords + w] = four.word[w];
  }
#pragma unroll
  for (int i = 0; i < N; ++i) {
    words[i] = shift == 0   ? drawn[i]
               : shift == 1 ? drawn[i + 1]
               : shift == 2 ? drawn[i + 2]
                            : drawn[i + 3];
  }
}

// Packs of N elements, the first of which starts `skew` elements before x, aligned.
template <int N, class T>
__global__ void __launch_bounds__(kThreads)
    dropout_kernel(Philox philox, std::uint64_t offset, std::uint32_t threshold,
                   ComputeOf<T> factor, std::int64_t count, int skew, const T* x, T* y) {
  const std::int64_t pack = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::int64_t first = pack * N - skew;
  if (first >= count) return;
  Pack<T, N> in{};
  map_load(in, x + first, false, first, count);
  std::uint32_t words[N];
  draw(philox, offset + static_cast<std::uint64_t>(first), words);
  ComputeOf<T> values[N];
  widen(in, values);
#pragma unroll
  for (int i = 0; i < N; ++i) {
    values[i] = words[i] >= threshold ? values[i] * factor : ComputeOf<T>(0);
  }
  map_store(narrow<T>(values), y + first, first, count);
}

template <int N, class T>
void launch_dropout(const DropoutMask& mask, std::uint32_t threshold, std::int64_t count, int skew,
                    const T* x, T* y, Stream stream) {
  const std::int64_t packs = (count + skew + N - 1) / N;
  const double factor = 1.0 / (1.0 - mask.probability);
  launch(dropout_kernel<N, T>,
         Shape{static_cast<unsigned>((packs + kThreads - 1) / kThreads), kThreads}, stream,
         Philox{mask.seed, mask.stream}, mask.offset, threshold, static_cast<ComputeOf<T>>(factor),
         count, skew, x, y);
}

__global__ void __launch_bounds__(kThreads)
    words_kernel(Philox philox, std::uint64_t first, std::int64_t count, std::uint32_t* out) {
  const std::int64_t at =
      (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * Philox::kWords;
  if (at >= count) return;
  std::uint32_t words[Philox::kWords];
  draw(philox, first + static_cast<std::uint64_t>(at), words);
#pragma unroll
  for (int i = 0; i < Philox::kWords; ++i) {
    if (at + i < count) out[at + i] = words[i];
  }
}

}  // namespace

void dropout(const DropoutMask& mask, DType dtype, Elems count, const void* x, void* y,
             Stream stream) {
  if (count.value <= 0) return;
  const std::uint64_t threshold = dropout_threshold(mask.probability);
  if (threshold > 0xffffffffu) return fill(dtype, count, y, 0.0, stream);  // nothing is kept
  dispatch_floating(dtype, "dropout", [&]<class T>() {
    constexpr int kN = kWidth<T>;
    const int skew = skew_of<T>(x, kN);
    const auto keep = static_cast<std::uint32_t>(threshold);
    const auto* const from = static_cast<const T*>(x);
    if (skew == skew_of<T>(y, kN)) {
      launch_dropout<kN>(mask, keep, count.value, skew, from, static_cast<T*>(y), stream);
    } else {
      launch_dropout<1>(mask, keep, count.value, 0, from, static_cast<T*>(y), stream);
    }
  });
}

void philox_words(std::uint64_t seed, std::uint64_t stream_id, std::uint64_t first, Elems count,
                  std::uint32_t* out, Stream stream) {
  constexpr std::int64_t kOfBlock = kThreads * Philox::kWords;
  if (count.value <= 0) return;
  launch(words_kernel,
         Shape{static_cast<unsigned>((count.value + kOfBlock - 1) / kOfBlock), kThreads}, stream,
         Philox{seed, stream_id}, first, count.value, out);
}

}  // namespace weft::kernels::cuda
