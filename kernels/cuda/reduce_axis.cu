// Sums and means along one dimension. Few terms: a thread a result. Rows: a block for 16384
// elements of one, then the blocks' sums in f64. Columns: column_sums.cuh.
#include "kernels/cuda/checks.h"
#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/rows.cuh"

namespace weft::kernels::cuda {
namespace {

constexpr std::int64_t kFew = 64;
constexpr std::int64_t kChunk = 16384;
constexpr int kThreads = 256;

// What terms of T are added in, within a block and across blocks. Integers wrap.
template <class T>
using SumOf = std::conditional_t<std::is_integral_v<T>, std::uint64_t, ComputeOf<T>>;
template <class T>
using TotalOf = std::conditional_t<std::is_integral_v<T>, std::uint64_t, double>;

template <class T>
__device__ __forceinline__ T finished(TotalOf<T> total, double divisor) {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(total);
  } else {
    return narrow<T>(static_cast<ComputeOf<T>>(total / divisor));
  }
}

// Strides over results: `outer` and `inner` of them.
template <class T>
__global__ void __launch_bounds__(kThreads)
    few_kernel(Axis axis, double divisor, T* out, const T* in) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
       i < axis.outer * axis.inner; i += step) {
    const T* const column = in + i / axis.inner * axis.reduced * axis.inner + i % axis.inner;
    SumOf<T> sum = 0;
#pragma unroll 4
    for (std::int64_t r = 0; r < axis.reduced; ++r) {
      sum += static_cast<SumOf<T>>(widen(column[r * axis.inner]));
    }
    out[i] = finished<T>(static_cast<TotalOf<T>>(sum), divisor);
  }
}

// A block a chunk of a row. `partials` (rows, chunks), or nullptr where a row is one chunk.
template <class T>
__global__ void __launch_bounds__(1024)
    rows_kernel(std::int64_t rows, std::int64_t reduced, std::int64_t chunks, double divisor,
                T* out, TotalOf<T>* partials, const T* in) {
  using Row = LongRow<T>;
  __shared__ double slots[kWarpsMax];
  const BlockTeam team{slots};
  for (std::int64_t block = blockIdx.x; block < rows * chunks; block += gridDim.x) {
    const std::int64_t begin = block % chunks * kChunk;
    Row row(in + block / chunks * reduced + begin, min(kChunk, reduced - begin), nullptr);
    SumOf<T> sum = 0;
    row.each(ComputeOf<T>(0), [&](auto, const ComputeOf<T>(&x)[Row::kN]) {
#pragma unroll
      for (int i = 0; i < Row::kN; ++i) sum += static_cast<SumOf<T>>(x[i]);
    });
    sum = team.sum(sum);
    if (team.rank() != 0) continue;
    if (partials == nullptr) {
      out[block] = finished<T>(static_cast<TotalOf<T>>(sum), divisor);
    } else {
      partials[block] = static_cast<TotalOf<T>>(sum);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    fold_rows_kernel(std::int64_t rows, std::int64_t chunks, double divisor, T* out,
                     const TotalOf<T>* partials) {
  __shared__ double slots[kWarpsMax];
  const BlockTeam team{slots};
  for (std::int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    TotalOf<T> total = 0;
#pragma unroll 4
    for (std::int64_t c = threadIdx.x; c < chunks; c += kThreads) total += partials[r * chunks + c];
    total = team.sum(total);
    if (team.rank() == 0) out[r] = finished<T>(total, divisor);
  }
}

template <class T>
void sum_rows(Axis axis, double divisor, T* out, const T* in, Stream stream) {
  const std::int64_t chunks = (axis.reduced + kChunk - 1) / kChunk;
  const Scratch scratch(Bytes(chunks > 1 ? axis.outer * chunks * 8 : 0), stream);
  auto* const partials = static_cast<TotalOf<T>*>(scratch.data());
  const LongRows shape = long_rows<T>(std::min(axis.reduced, kChunk), false);
  launch(rows_kernel<T>, Shape{grid_for(axis.outer * chunks, 1, kRowBlocksMax), shape.threads},
         stream, axis.outer, axis.reduced, chunks, divisor, out, partials, in);
  if (chunks > 1) {
    launch(fold_rows_kernel<T>, Shape{grid_for(axis.outer, 1, kRowBlocksMax), kThreads}, stream,
           axis.outer, chunks, divisor, out, partials);
  }
}

template <class T>
struct ColumnSource {
  Axis axis;
  const T* in;
  template <class Visit>
  void pointers(const Visit& visit) const {
    visit(in);
  }
  template <int N>
  __device__ void add(std::int64_t outer, std::int64_t row, std::int64_t column,
                      ComputeOf<T> (&sums)[1][N]) const {
    ComputeOf<T> values[N];
    widen(load_pack<Pack<T, N>>(in + (outer * axis.reduced + row) * axis.inner + column), values);
#pragma unroll
    for (int i = 0; i < N; ++i) sums[0][i] += values[i];
  }
};

template <int N, class T>
void sum_columns(Axis axis, double divisor, T* out, const T* in, Stream stream) {
  T* const outs[1] = {out};
  launch_column_sums<N>(ColumnGrid(axis.outer, axis.reduced, axis.inner, N),
                        ColumnSource<T>{axis, in}, outs, static_cast<ComputeOf<T>>(divisor),
                        stream);
}

template <class T>
void reduce(AxisOp op, Axis axis, T* out, const T* in, Stream stream) {
  const double divisor = op == AxisOp::mean ? static_cast<double>(axis.reduced) : 1.0;
  const std::int64_t results = axis.outer * axis.inner;
  if (results == 0) return;
  if (axis.reduced <= kFew || (std::is_integral_v<T> && axis.inner > 1)) {
    launch(few_kernel<T>, Shape{grid_for(results, kThreads, kRowBlocksMax), kThreads}, stream, axis,
           divisor, out, in);
  } else if (axis.inner == 1) {
    sum_rows(axis, divisor, out, in, stream);
  } else if constexpr (!std::is_integral_v<T>) {
    if (are_whole_packs<T>(axis.inner, {in})) {
      sum_columns<kWidth<T>>(axis, divisor, out, in, stream);
    } else {
      sum_columns<1>(axis, divisor, out, in, stream);
    }
  }
}

}  // namespace

void reduce_axis(AxisOp op, DType dtype, Axis axis, void* out, const void* in, Stream stream) {
  if (axis.outer < 0 || axis.reduced < 0 || axis.inner < 0) {
    refuse("reduce_axis: sizes (" + std::to_string(axis.outer) + ", " +
           std::to_string(axis.reduced) + ", " + std::to_string(axis.inner) +
           "): expected 0 or more.");
  }
  if (op == AxisOp::mean && !is_floating(dtype)) {
    refuse("reduce_axis: mean does not serve " + std::string(name_of(dtype)) +
           ": convert to a floating type.");
  }
  dispatch(dtype, [&]<class T>() {
    reduce(op, axis, static_cast<T*>(out), static_cast<const T*>(in), stream);
  });
}

}  // namespace weft::kernels::cuda
