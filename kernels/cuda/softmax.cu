// Softmax and its logarithm: a block a row.
#include "kernels/cuda/softmax.h"

#include "kernels/cuda/checks.h"
#include "kernels/cuda/rows.cuh"
#include "kernels/functors/softmax.h"

namespace weft::kernels::cuda {
namespace {

template <class T>
struct Rows {
  SoftmaxKind kind;
  std::int64_t rows, columns;
  const T *dy, *in;  // in: x forward, y backward
  T* out;

  template <class Visit>
  void pointers(const Visit& visit) const {
    visit(dy);
    visit(in);
    visit(out);
  }
};

template <class T>
__global__ void __launch_bounds__(1024) forward_kernel(Rows<T> p, bool held) {
  using R = ComputeOf<T>;
  using Row = LongRow<T>;
  using Math = functors::MathFor<T>;
  __shared__ double slots[kWarpsMax];
  const BlockTeam team{slots};
  for (std::int64_t r = blockIdx.x; r < p.rows; r += gridDim.x) {
    Row row(p.in + r * p.columns, p.columns, held ? dynamic_shared<FullPack<T>>() : nullptr);
    T* const y = p.out + r * p.columns;
    functors::ExpSum<R, Math> sum;
    row.each(-std::numeric_limits<R>::infinity(), [&](auto, const R(&x)[Row::kN]) { sum.add(x); });
    sum.raise(team.max(sum.top));
    sum.sum = team.sum(sum.sum);
    // A row of nothing but -infinity: NaN.
    const R top = sum.top;
    if (p.kind == SoftmaxKind::log) {
      const R shift = std::log(sum.sum);
      row.each(R(0), [&](auto chunk, const R(&x)[Row::kN]) {
        R out[Row::kN];
#pragma unroll
        for (int i = 0; i < Row::kN; ++i) out[i] = x[i] - top - shift;
        row.put(chunk, y, out);
      });
    } else {
      const R factor = R(1) / sum.sum;
      row.each(R(0), [&](auto chunk, const R(&x)[Row::kN]) {
        R out[Row::kN];
#pragma unroll
        for (int i = 0; i < Row::kN; ++i) out[i] = Math::exp(x[i] - top) * factor;
        row.put(chunk, y, out);
      });
    }
  }
}

// plain: dx = y (dy - sum(dy y)); log: dx = dy - e^y sum(dy).
template <class T>
__global__ void __launch_bounds__(1024) backward_kernel(Rows<T> p, bool held) {
  using R = ComputeOf<T>;
  using Row = LongRow<T>;
  using Math = functors::MathFor<T>;
  __shared__ double slots[kWarpsMax];
  const BlockTeam team{slots};
  const bool log = p.kind == SoftmaxKind::log;
  for (std::int64_t r = blockIdx.x; r < p.rows; r += gridDim.x) {
    Row row(p.dy + r * p.columns, p.columns, held ? dynamic_shared<FullPack<T>>() : nullptr);
    const T* const y = p.in + r * p.columns;
    R total = 0;
    row.each(R(0), [&](auto chunk, const R(&dy)[Row::kN]) {
      R v[Row::kN];
      row.get(chunk, y, R(0), v);
#pragma unroll
      for (int i = 0; i < Row::kN; ++i) total += log ? dy[i] : dy[i] * v[i];
    });
    total = team.sum(total);
    row.each(R(0), [&](auto chunk, const R(&dy)[Row::kN]) {
      R v[Row::kN];
      row.get(chunk, y, R(0), v);
#pragma unroll
      for (int i = 0; i < Row::kN; ++i) {
        v[i] = log ? dy[i] - Math::exp(v[i]) * total : v[i] * (dy[i] - total);
      }
      row.put(chunk, p.out + r * p.columns, v);
    });
  }
}

// dy == nullptr: forward.
void run(SoftmaxKind kind, DType dtype, std::int64_t rows, std::int64_t columns, const void* dy,
         const void* in, void* out, Stream stream) {
  dispatch_floating(dtype, "softmax", [&]<class T>() {
    if (rows == 0 || columns == 0) return;
    const Rows<T> p{kind,
                    rows,
                    columns,
                    static_cast<const T*>(dy),
                    static_cast<const T*>(in),
                    static_cast<T*>(out)};
    const LongRows shape = long_rows<T>(columns, true);
    launch(dy == nullptr ? forward_kernel<T> : backward_kernel<T>,
           Shape{grid_for(rows, 1, kRowBlocksMax), shape.threads, shape.shared_bytes}, stream, p,
           shape.shared_bytes > 0);
  });
}

}  // namespace

void softmax(SoftmaxKind kind, DType dtype, std::int64_t rows, std::int64_t columns, const void* x,
             void* y, Stream stream) {
  run(kind, dtype, rows, columns, nullptr, x, y, stream);
}

void softmax_backward(SoftmaxKind kind, DType dtype, std::int64_t rows, std::int64_t columns,
                      const void* dy, const void* y, void* dx, Stream stream) {
  run(kind, dtype, rows, columns, dy, y, dx, stream);
}

}  // namespace weft::kernels::cuda
