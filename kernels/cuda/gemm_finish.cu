#include "kernels/cuda/gemm_finish.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "kernels/base/half.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/status.h"

namespace weft::kernels::cuda {
namespace {

template <class T>
using Real = std::conditional_t<std::is_same_v<T, double>, double, float>;

// sqrt(2 / pi) and the cubic's factor of the tanh form: kernels/activation.h.
template <class R>
struct GeluTanh {
  static constexpr R kSlope = R(0.7978845608028654), kCubic = R(0.044715);
  WEFT_HD static R value(R x) {
    return R(0.5) * x * (R(1) + std::tanh(kSlope * (x + kCubic * x * x * x)));
  }
  WEFT_HD static R derivative(R x) {
    const R t = std::tanh(kSlope * (x + kCubic * x * x * x));
    const R inner = kSlope * (R(1) + R(3) * kCubic * x * x);
    return R(0.5) * (R(1) + t) + R(0.5) * x * (R(1) - t * t) * inner;
  }
};

constexpr unsigned kThreads = 256;
constexpr std::int64_t kGridMax = 65535;

template <class T>
__global__ void __launch_bounds__(kThreads) finish_kernel(GemmFinish work) {
  using R = Real<T>;
  const auto column = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (column >= work.columns) return;
  const R bias = work.bias == nullptr ? R(0) : R(static_cast<const T*>(work.bias)[column]);
  const R scale = static_cast<R>(work.scale);
  for (std::int64_t image = blockIdx.z; image < work.batch; image += gridDim.z) {
    T* const c = static_cast<T*>(work.c) + image * work.stride_c;
    for (std::int64_t row = blockIdx.y; row < work.rows; row += gridDim.y) {
      T& to = c[row * work.ldc + column];
      R value = work.scale == 0.0 ? R(0) : R(to) * scale;
      value += bias;
      const std::int64_t at = row * work.columns + column;
      if (work.kept != nullptr) static_cast<T*>(work.kept)[at] = T(value);
      if (work.finish == Finish::bias_gelu) value = GeluTanh<R>::value(value);
      if (work.finish == Finish::gelu_backward) {
        value *= GeluTanh<R>::derivative(R(static_cast<const T*>(work.saved)[at]));
      }
      to = T(value);
    }
  }
}

// A block of 32 x 8 threads gives 32 sums (outputs beside each other: a row of threads reads a
// row) or 8 (terms beside each other: a warp adds up one output).
constexpr unsigned kLanes = 32, kRows = 8;

template <class T>
__global__ void __launch_bounds__(kLanes* kRows) column_sums_kernel(GemmSums sums) {
  using R = Real<T>;
  __shared__ R parts[kRows][kLanes];
  const auto output = static_cast<std::int64_t>(blockIdx.x) * kLanes + threadIdx.x;
  R sum = R(0);
  if (output < sums.outputs) {
    const T* const data = static_cast<const T*>(sums.data) + output * sums.output_stride;
    for (std::int64_t l = threadIdx.y; l < sums.terms; l += kRows) {
      sum += R(data[l * sums.term_stride]);
    }
  }
  parts[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || output >= sums.outputs) return;
  for (unsigned i = 1; i < kRows; ++i) sum += parts[i][threadIdx.x];
  static_cast<T*>(sums.to)[output] = T(sum);
}

template <class T>
__global__ void __launch_bounds__(kLanes* kRows) row_sums_kernel(GemmSums sums) {
  using R = Real<T>;
  __shared__ R parts[kRows][kLanes];
  const auto output = static_cast<std::int64_t>(blockIdx.x) * kRows + threadIdx.y;
  R sum = R(0);
  if (output < sums.outputs) {
    const T* const data = static_cast<const T*>(sums.data) + output * sums.output_stride;
    for (std::int64_t l = threadIdx.x; l < sums.terms; l += kLanes) {
      sum += R(data[l * sums.term_stride]);
    }
  }
  parts[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.x != 0 || output >= sums.outputs) return;
  for (unsigned i = 1; i < kLanes; ++i) sum += parts[threadIdx.y][i];
  static_cast<T*>(sums.to)[output] = T(sum);
}

unsigned blocks_of(std::int64_t count, std::int64_t per_block) {
  return static_cast<unsigned>((count + per_block - 1) / per_block);
}

template <class Visitor>
void with_type(DType dtype, const Visitor& visitor) {
  if (dtype == DType::f64) return visitor(double{});
  if (dtype == DType::f16) return visitor(Half{});
  if (dtype == DType::bf16) return visitor(BFloat16{});
  visitor(float{});
}

}  // namespace

void finish_gemm(const GemmFinish& work, Stream stream) {
  if (work.batch == 0 || work.rows == 0 || work.columns == 0) return;
  const dim3 grid(blocks_of(work.columns, kThreads),
                  static_cast<unsigned>(std::min(work.rows, kGridMax)),
                  static_cast<unsigned>(std::min(work.batch, kGridMax)));
  with_type(work.dtype, [&](auto type) {
    launch(finish_kernel<decltype(type)>, Shape{grid, dim3(kThreads)}, stream, work);
  });
}

void sum_for_gemm(const GemmSums& sums, Stream stream) {
  if (sums.outputs == 0) return;
  const bool columns = sums.output_stride == 1;
  const Shape shape{dim3(blocks_of(sums.outputs, columns ? kLanes : kRows)), dim3(kLanes, kRows)};
  with_type(sums.dtype, [&](auto type) {
    using T = decltype(type);
    launch(columns ? column_sums_kernel<T> : row_sums_kernel<T>, shape, stream, sums);
  });
}

}  // namespace weft::kernels::cuda
