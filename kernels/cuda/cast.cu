// f32 to f16 and bf16: eight elements a thread, two 16-byte loads and one 16-byte store.
#include <algorithm>
#include <cstdint>

#include "kernels/cuda/cast.h"
#include "kernels/cuda/launch.cuh"

namespace weft::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kBlocksMax = 132 * 16;  // a few waves of the largest device
constexpr int kWidth = 8;

// Two halves in the order memory holds them.
template <class T>
__device__ unsigned packed(float first, float second, float scale) {
  const unsigned low = T(first * scale).bits, high = T(second * scale).bits;
  return low | high << 16;
}

template <class T>
__global__ void cast_kernel(T* __restrict__ to, const float* __restrict__ from, std::int64_t head,
                            std::int64_t count, float scale) {
  const std::int64_t thread = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::int64_t threads = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  const std::int64_t groups = (count - head) / kWidth;
  for (std::int64_t i = thread; i < groups; i += threads) {
    const auto* const in = reinterpret_cast<const float4*>(from + head + i * kWidth);
    const float4 low = in[0], high = in[1];
    *reinterpret_cast<uint4*>(to + head + i * kWidth) =
        make_uint4(packed<T>(low.x, low.y, scale), packed<T>(low.z, low.w, scale),
                   packed<T>(high.x, high.y, scale), packed<T>(high.z, high.w, scale));
  }
  // Before the first aligned group, and after the last whole one.
  for (std::int64_t i = thread; i < head; i += threads) to[i] = T(from[i] * scale);
  for (std::int64_t i = head + groups * kWidth + thread; i < count; i += threads) {
    to[i] = T(from[i] * scale);
  }
}

template <class T>
void cast(void* to, const float* from, std::int64_t count, float scale, Stream stream) {
  const auto to_address = reinterpret_cast<std::uintptr_t>(to);
  const auto from_address = reinterpret_cast<std::uintptr_t>(from);
  // Elements to skip until the output is aligned; where the input is not aligned there too, all of
  // it goes one by one.
  std::int64_t head = static_cast<std::int64_t>((16 - to_address % 16) % 16 / sizeof(T));
  if ((from_address + static_cast<std::uintptr_t>(head) * 4) % 16 != 0 || head > count)
    head = count;
  const std::int64_t work = head == count ? count : (count + kWidth - 1) / kWidth;
  launch(cast_kernel<T>, Shape{grid_for(work, kThreads, kBlocksMax), kThreads}, stream,
         static_cast<T*>(to), from, head, count, scale);
}

}  // namespace

void cast_from_f32(void* to, DType to_type, const float* from, Elems count, double scale,
                   Stream stream) {
  if (!is_half(to_type)) refuse("CUDA cast: expected f16 or bf16 as the type to cast to");
  if (count.value <= 0) return;
  if (to_type == DType::f16) {
    cast<Half>(to, from, count.value, static_cast<float>(scale), stream);
  } else {
    cast<BFloat16>(to, from, count.value, static_cast<float>(scale), stream);
  }
}

}  // namespace weft::kernels::cuda
