// The largest element along one dimension and its index; backward puts gradients at indices.
#include "kernels/cuda/checks.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/faults.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/functors/best.h"

namespace weft::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kFew = 64;

// What values are compared as: wide enough for shuffles, and exact.
template <class T>
using KeyOf = std::conditional_t<std::is_integral_v<T>, std::int64_t, ComputeOf<T>>;

template <class T>
struct Problem {
  Axis axis;
  T* out;                 // or nullptr
  std::int64_t* indices;  // or nullptr
  const T* in;

  template <class Visit>
  void pointers(const Visit& visit) const {
    visit(out);
    visit(indices);
    visit(in);
  }
};

template <class T>
__device__ __forceinline__ void give(const Problem<T>& p, std::int64_t result, std::int64_t index) {
  const std::int64_t at =
      (result / p.axis.inner * p.axis.reduced + index) * p.axis.inner + result % p.axis.inner;
  if (p.out != nullptr) p.out[result] = p.in[at];
  if (p.indices != nullptr) p.indices[result] = index;
}

// A thread a result.
template <class T>
__global__ void __launch_bounds__(kThreads) few_kernel(Problem<T> p) {
  const std::int64_t results = p.axis.outer * p.axis.inner;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < results;
       i += step) {
    const T* const column =
        p.in + i / p.axis.inner * p.axis.reduced * p.axis.inner + i % p.axis.inner;
    functors::Best<KeyOf<T>> best{};
#pragma unroll 4
    for (std::int64_t r = 0; r < p.axis.reduced; ++r) {
      best.take(static_cast<KeyOf<T>>(widen(column[r * p.axis.inner])), r);
    }
    give(p, i, best.index);
  }
}

template <class Key>
__device__ __forceinline__ functors::Best<Key> best_of_warp(functors::Best<Key> best) {
#pragma unroll
  for (int apart = 16; apart > 0; apart /= 2) {
    const Key value = warp_shuffle_xor(best.value, apart);
    best.take(value, warp_shuffle_xor(best.index, apart));
  }
  return best;
}

// A block a row.
template <class T>
__global__ void __launch_bounds__(1024) rows_kernel(Problem<T> p) {
  using Key = KeyOf<T>;
  __shared__ Key values[kWarpsMax];
  __shared__ std::int64_t indices[kWarpsMax];
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  const int warp = static_cast<int>(threadIdx.x / kWarp);
  const int warps = static_cast<int>(blockDim.x / kWarp);
  for (std::int64_t r = blockIdx.x; r < p.axis.outer; r += gridDim.x) {
    const T* const row = p.in + r * p.axis.reduced;
    functors::Best<Key> best{};
#pragma unroll 4
    for (std::int64_t i = threadIdx.x; i < p.axis.reduced; i += blockDim.x) {
      best.take(static_cast<Key>(widen(row[i])), i);
    }
    best = best_of_warp(best);
    if (lane == 0) {
      values[warp] = best.value;
      indices[warp] = best.index;
    }
    __syncthreads();
    if (warp == 0) {
      best = {};
      if (lane < warps) best = {values[lane], indices[lane]};
      best = best_of_warp(best);
      if (lane == 0) give(p, r, best.index);
    }
    __syncthreads();
  }
}

template <class Word>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(Axis axis, Word* grad_in, const Word* grad_out, const std::int64_t* indices,
                    FaultSink sink) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
       i < axis.outer * axis.inner; i += step) {
    const std::int64_t index = indices[i];
    if (!index_is_good(sink, i, index)) continue;
    grad_in[(i / axis.inner * axis.reduced + index) * axis.inner + i % axis.inner] = grad_out[i];
  }
}

template <class Word>
void place(Axis axis, void* grad_in, const void* grad_out, const std::int64_t* indices,
           Stream stream) {
  launch(backward_kernel<Word>,
         Shape{grid_for(axis.outer * axis.inner, kThreads, kRowBlocksMax), kThreads}, stream, axis,
         static_cast<Word*>(grad_in), static_cast<const Word*>(grad_out), indices,
         fault_sink(FaultKind::max_axis_backward, axis.reduced));
}

}  // namespace

void max_axis(DType dtype, Axis axis, void* out, std::int64_t* indices, const void* in,
              Stream stream) {
  const std::int64_t results = axis.outer * axis.inner;
  if (axis.outer < 0 || axis.inner < 0 || axis.reduced < 0 || (axis.reduced == 0 && results > 0)) {
    refuse("max_axis: sizes (" + std::to_string(axis.outer) + ", " + std::to_string(axis.reduced) +
           ", " + std::to_string(axis.inner) + "): the largest of no elements is not defined.");
  }
  if (results == 0) return;
  dispatch(dtype, [&]<class T>() {
    const Problem<T> p{axis, static_cast<T*>(out), indices, static_cast<const T*>(in)};
    if (axis.inner > 1 || axis.reduced <= kFew) {
      launch(few_kernel<T>, Shape{grid_for(results, kThreads, kRowBlocksMax), kThreads}, stream, p);
    } else {
      launch(rows_kernel<T>,
             Shape{grid_for(results, 1, kRowBlocksMax), long_rows<T>(axis.reduced, false).threads},
             stream, p);
    }
  });
}

void max_axis_backward(DType dtype, Axis axis, void* grad_in, const void* grad_out,
                       const std::int64_t* indices, Stream stream) {
  fill(dtype, Elems(axis.outer * axis.reduced * axis.inner), grad_in, 0.0, stream);
  if (axis.outer * axis.inner == 0) return;
  switch (size_of(dtype).value) {
    case 8:
      return place<std::uint64_t>(axis, grad_in, grad_out, indices, stream);
    case 4:
      return place<std::uint32_t>(axis, grad_in, grad_out, indices, stream);
    case 2:
      return place<std::uint16_t>(axis, grad_in, grad_out, indices, stream);
    default:
      return place<std::uint8_t>(axis, grad_in, grad_out, indices, stream);
  }
}

}  // namespace weft::kernels::cuda
