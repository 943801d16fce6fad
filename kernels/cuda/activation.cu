// GELU and ReLU, forward and backward, and the backward of a linear layer's epilogue.
#include "kernels/cuda/activation.h"

#include "kernels/cuda/checks.h"
#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/map.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/functors/activation.h"

namespace weft::kernels::cuda {
namespace {

enum class Curve : std::uint8_t { gelu_exact, gelu_tanh, relu, identity };

// f(shape) with the curve's functions; one branch for a whole pack.
template <class T, class F>
__device__ __forceinline__ void with_curve(Curve curve, const F& f) {
  using R = ComputeOf<T>;
  using Math = functors::MathFor<T>;
  switch (curve) {
    case Curve::gelu_exact:
      return f(functors::GeluExact<R, Math>());
    case Curve::gelu_tanh:
      return f(functors::GeluTanh<R, Math>());
    default:
      return f(functors::Relu<R>());
  }
}

template <class T>
struct ForwardBody {
  Curve curve;
  template <int N>
  __device__ void operator()(Pack<T, N>& y, const Pack<T, N>* x) const {
    ComputeOf<T> values[N];
    widen(*x, values);
    with_curve<T>(curve, [&](auto shape) {
#pragma unroll
      for (int i = 0; i < N; ++i) values[i] = shape.value(values[i]);
    });
    y = narrow<T>(values);
  }
};

// x[0]: dy; x[1]: what was saved.
template <class T>
struct BackwardBody {
  Curve curve;
  template <int N>
  __device__ void operator()(Pack<T, N>& dx, const Pack<T, N>* x) const {
    ComputeOf<T> dy[N], saved[N];
    widen(x[0], dy);
    widen(x[1], saved);
    with_curve<T>(curve, [&](auto shape) {
#pragma unroll
      for (int i = 0; i < N; ++i) dy[i] *= shape.slope(saved[i]);
    });
    dx = narrow<T>(dy);
  }
};

void apply(Curve curve, DType dtype, Elems count, const void* x, void* y, Stream stream) {
  dispatch_floating(dtype, "activation", [&]<class T>() {
    if (count.value <= 0) return;
    launch_map<kWidth<T>, 1>(walks::flat(count.value, 2),
                             MapOperands<T, T, 1>{static_cast<T*>(y), {static_cast<const T*>(x)}},
                             ForwardBody<T>{curve}, stream);
  });
}

void differentiate(Curve curve, DType dtype, Elems count, const void* dy, const void* saved,
                   void* dx, Stream stream) {
  dispatch_floating(dtype, "activation", [&]<class T>() {
    if (count.value <= 0) return;
    launch_map<kWidth<T>, 2>(
        walks::flat(count.value, 3),
        MapOperands<T, T, 2>{static_cast<T*>(dx),
                             {static_cast<const T*>(dy), static_cast<const T*>(saved)}},
        BackwardBody<T>{curve}, stream);
  });
}

// dx of one row's columns, and its sum.
template <class T>
struct EpilogueSource {
  Curve curve;
  std::int64_t columns;
  const T *dy, *saved;
  T* dx;

  template <class Visit>
  void pointers(const Visit& visit) const {
    visit(dy);
    visit(saved);
    visit(dx);
  }

  template <int N>
  __device__ void add(std::int64_t, std::int64_t row, std::int64_t column,
                      ComputeOf<T> (&sums)[1][N]) const {
    const std::int64_t at = row * columns + column;
    ComputeOf<T> g[N];
    widen(load_pack<Pack<T, N>>(dy + at), g);
    if (curve != Curve::identity) {
      ComputeOf<T> x[N];
      widen(load_pack<Pack<T, N>>(saved + at), x);
      with_curve<T>(curve, [&](auto shape) {
#pragma unroll
        for (int i = 0; i < N; ++i) g[i] *= shape.slope(x[i]);
      });
      store_pack(dx + at, narrow<T>(g));
    }
#pragma unroll
    for (int i = 0; i < N; ++i) sums[0][i] += g[i];
  }
};

Curve curve_of(EpilogueActivation activation) {
  if (activation == EpilogueActivation::gelu_tanh) return Curve::gelu_tanh;
  return activation == EpilogueActivation::relu ? Curve::relu : Curve::identity;
}

Curve curve_of(GeluKind kind) {
  return kind == GeluKind::tanh ? Curve::gelu_tanh : Curve::gelu_exact;
}

template <class T>
void backward_of_epilogue(const BiasActivationBackward& p, Stream stream) {
  using R = ComputeOf<T>;
  const EpilogueSource<T> source{curve_of(p.activation), p.columns, static_cast<const T*>(p.dy),
                                 static_cast<const T*>(p.saved), static_cast<T*>(p.dx)};
  T* const out[1] = {static_cast<T*>(p.dbias)};
  const bool reads_saved = source.curve != Curve::identity;
  const void* const saved = reads_saved ? p.saved : nullptr;
  const void* const dx = reads_saved ? p.dx : nullptr;
  if (are_whole_packs<T>(p.columns, {p.dy, saved, dx})) {
    launch_column_sums<kWidth<T>>(ColumnGrid(1, p.rows, p.columns, kWidth<T>), source, out, R(1),
                                  stream);
  } else {
    launch_column_sums<1>(ColumnGrid(1, p.rows, p.columns, 1), source, out, R(1), stream);
  }
}

}  // namespace

void gelu(GeluKind kind, DType dtype, Elems count, const void* x, void* y, Stream stream) {
  apply(curve_of(kind), dtype, count, x, y, stream);
}

void gelu_backward(GeluKind kind, DType dtype, Elems count, const void* dy, const void* x, void* dx,
                   Stream stream) {
  differentiate(curve_of(kind), dtype, count, dy, x, dx, stream);
}

void relu(DType dtype, Elems count, const void* x, void* y, Stream stream) {
  apply(Curve::relu, dtype, count, x, y, stream);
}

void relu_backward(DType dtype, Elems count, const void* dy, const void* y, void* dx,
                   Stream stream) {
  differentiate(Curve::relu, dtype, count, dy, y, dx, stream);
}

void bias_activation_backward(const BiasActivationBackward& problem, Stream stream) {
  const Curve curve = curve_of(problem.activation);
  if (problem.dbias != nullptr) {
    dispatch_floating(problem.dtype, "bias_activation_backward",
                      [&]<class T>() { backward_of_epilogue<T>(problem, stream); });
  } else if (curve != Curve::identity) {
    differentiate(curve, problem.dtype, Elems(problem.rows * problem.columns), problem.dy,
                  problem.saved, problem.dx, stream);
  }
}

}  // namespace weft::kernels::cuda
