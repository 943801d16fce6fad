#include "kernels/layer_norm.h"

#include "kernels/cpu/operator_targets.h"
#include "kernels/cpu/staging.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/layer_norm.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include "kernels/cpu/simd_math-inl.h"

#ifndef WEFT_KERNELS_CPU_LAYER_NORM_ONCE
#define WEFT_KERNELS_CPU_LAYER_NORM_ONCE
namespace weft::kernels {
namespace {

template <class R>
struct ForwardRows {
  std::size_t rows, columns;
  R epsilon;
  const R *x, *weight, *bias;
  R *y, *mean, *rstd;
};

template <class R>
struct BackwardRows {
  std::size_t rows, columns;
  const R *dy, *x, *weight, *mean, *rstd;
  R *dx, *dweight, *dbias;  // dweight and dbias are added to; any may be nullptr
};

}  // namespace
}  // namespace weft::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace weft::kernels {
namespace HWY_NAMESPACE {
namespace {

using namespace simd;

template <class R>
HWY_INLINE void normalise(const ForwardRows<R>& a) {
  const hn::ScalableTag<R> d;
  const std::size_t n = a.columns;
  for (std::size_t r = 0; r < a.rows; ++r) {
    const R* x = a.x + r * n;
    R* y = a.y + r * n;
    const R mean =
        sum_lanes(d, n, [x](auto lanes, std::size_t i) HWY_ATTR { return lanes.load(x + i); }) /
        static_cast<R>(n);
    const auto centre = hn::Set(d, mean);
    const R variance = sum_lanes(d, n,
                                 [x, centre](auto lanes, std::size_t i) HWY_ATTR {
                                   const auto c = hn::Sub(lanes.load(x + i), centre);
                                   return hn::Mul(c, c);
                                 }) /
                       static_cast<R>(n);
    const R rstd = R(1) / std::sqrt(variance + a.epsilon);
    a.mean[r] = mean;
    a.rstd[r] = rstd;
    const auto factor = hn::Set(d, rstd);
    for_lanes(d, n, [&](auto lanes, std::size_t i) HWY_ATTR {
      auto v = hn::Mul(hn::Sub(lanes.load(x + i), centre), factor);
      if (a.weight != nullptr) v = hn::Mul(v, lanes.load(a.weight + i));
      if (a.bias != nullptr) v = hn::Add(v, lanes.load(a.bias + i));
      lanes.store(v, y + i);
    });
  }
}

template <class R>
HWY_INLINE void add_parameter_gradients(const BackwardRows<R>& a, const R* dy, const R* x,
                                        hn::Vec<hn::ScalableTag<R>> centre,
                                        hn::Vec<hn::ScalableTag<R>> factor) {
  const hn::ScalableTag<R> d;
  for_lanes(d, a.columns, [&](auto lanes, std::size_t i) HWY_ATTR {
    const auto g = lanes.load(dy + i);
    if (a.dweight != nullptr) {
      const auto normal = hn::Mul(hn::Sub(lanes.load(x + i), centre), factor);
      lanes.store(hn::MulAdd(g, normal, lanes.load(a.dweight + i)), a.dweight + i);
    }
    if (a.dbias != nullptr) {
      lanes.store(hn::Add(g, lanes.load(a.dbias + i)), a.dbias + i);
    }
  });
}

// With n = (x - mean) rstd and g = dy weight: dx = rstd (g - mean(g) - n mean(g n)).
template <class R>
HWY_INLINE void differentiate(const BackwardRows<R>& a) {
  const hn::ScalableTag<R> d;
  const std::size_t n = a.columns;
  for (std::size_t r = 0; r < a.rows; ++r) {
    const R* x = a.x + r * n;
    const R* dy = a.dy + r * n;
    const auto centre = hn::Set(d, a.mean[r]);
    const auto factor = hn::Set(d, a.rstd[r]);
    // Before dx, which may be dy.
    if (a.dweight != nullptr || a.dbias != nullptr) {
      add_parameter_gradients(a, dy, x, centre, factor);
    }
    if (a.dx == nullptr) continue;
    const auto gradient = [&](auto lanes, std::size_t i) HWY_ATTR {
      const auto g = lanes.load(dy + i);
      return a.weight == nullptr ? g : hn::Mul(g, lanes.load(a.weight + i));
    };
    const R sum = sum_lanes(d, n, gradient);
    const R dot = sum_lanes(d, n, [&](auto lanes, std::size_t i) HWY_ATTR {
      const auto normal = hn::Mul(hn::Sub(lanes.load(x + i), centre), factor);
      return hn::Mul(gradient(lanes, i), normal);
    });
    const auto mean_g = hn::Set(d, sum / static_cast<R>(n));
    const auto mean_gn = hn::Set(d, dot / static_cast<R>(n));
    R* dx = a.dx + r * n;
    for_lanes(d, n, [&](auto lanes, std::size_t i) HWY_ATTR {
      const auto normal = hn::Mul(hn::Sub(lanes.load(x + i), centre), factor);
      const auto g = hn::Sub(gradient(lanes, i), mean_g);
      lanes.store(hn::Mul(factor, hn::NegMulAdd(normal, mean_gn, g)), dx + i);
    });
  }
}

void normalise_f32(const ForwardRows<float>& a) { normalise(a); }
void normalise_f64(const ForwardRows<double>& a) { normalise(a); }
void differentiate_f32(const BackwardRows<float>& a) { differentiate(a); }
void differentiate_f64(const BackwardRows<double>& a) { differentiate(a); }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace weft::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {
namespace {

HWY_EXPORT(normalise_f32);
HWY_EXPORT(normalise_f64);
HWY_EXPORT(differentiate_f32);
HWY_EXPORT(differentiate_f64);

void run(const ForwardRows<float>& a) { HWY_DYNAMIC_DISPATCH(normalise_f32)(a); }
void run(const ForwardRows<double>& a) { HWY_DYNAMIC_DISPATCH(normalise_f64)(a); }
void run(const BackwardRows<float>& a) { HWY_DYNAMIC_DISPATCH(differentiate_f32)(a); }
void run(const BackwardRows<double>& a) { HWY_DYNAMIC_DISPATCH(differentiate_f64)(a); }

template <class T>
void forward(const LayerNorm& p) {
  using R = Real<T>;
  const std::int64_t n = p.columns;
  Reader<T> weights, biases;
  const R* weight = weights.read(static_cast<const T*>(p.weight), n);
  const R* bias = biases.read(static_cast<const T*>(p.bias), n);
  const T* x = static_cast<const T*>(p.x);
  T* y = static_cast<T*>(p.y);
  R* mean = static_cast<R*>(p.mean);
  R* rstd = static_cast<R*>(p.rstd);
  parallel_for(p.rows, grain_rows(n), [&](std::int64_t begin, std::int64_t end) {
    Reader<T> in;
    Writer<T> out;
    for_staged_rows<T>(begin, end, n, [&](std::int64_t row, std::int64_t rows) {
      run(ForwardRows<R>{static_cast<std::size_t>(rows), static_cast<std::size_t>(n),
                         static_cast<R>(p.epsilon), in.read(x + row * n, rows * n), weight, bias,
                         out.begin(y + row * n, rows * n), mean + row, rstd + row});
      out.end(y + row * n, rows * n);
    });
  });
}

template <class T>
void backward(const LayerNormBackward& p) {
  using R = Real<T>;
  const std::int64_t n = p.columns;
  Reader<T> weights;
  const R* weight = weights.read(static_cast<const T*>(p.weight), n);
  const T* x = static_cast<const T*>(p.x);
  const T* dy = static_cast<const T*>(p.dy);
  T* dx = static_cast<T*>(p.dx);
  const R* mean = static_cast<const R*>(p.mean);
  const R* rstd = static_cast<const R*>(p.rstd);
  const bool parameters = p.dweight != nullptr || p.dbias != nullptr;
  // dweight, then dbias.
  std::vector<R> sums(parameters ? static_cast<std::size_t>(2 * n) : 0);
  sum_over_row_blocks(
      p.rows, static_cast<std::int64_t>(sums.size()), sums.data(),
      [&](std::int64_t begin, std::int64_t end, R* partial) {
        Reader<T> x_in, dy_in;
        Writer<T> out;
        for_staged_rows<T>(begin, end, n, [&](std::int64_t row, std::int64_t rows) {
          T* to = dx == nullptr ? nullptr : dx + row * n;
          run(BackwardRows<R>{static_cast<std::size_t>(rows), static_cast<std::size_t>(n),
                              dy_in.read(dy + row * n, rows * n), x_in.read(x + row * n, rows * n),
                              weight, mean + row, rstd + row, out.begin(to, rows * n),
                              p.dweight == nullptr ? nullptr : partial,
                              p.dbias == nullptr ? nullptr : partial + n});
          out.end(to, rows * n);
        });
      });
  const auto give = [&](void* to, const R* from) {
    if (to != nullptr) cast(to, dtype_of<T>, from, dtype_of<R>, Elems(n));
  };
  give(p.dweight, sums.data());
  give(p.dbias, sums.data() + n);
}

}  // namespace

void layer_norm(const LayerNorm& problem) {
  dispatch_floating(problem.dtype, "layer_norm", [&]<class T>() { forward<T>(problem); });
}

void layer_norm_backward(const LayerNormBackward& problem) {
  dispatch_floating(problem.dtype, "layer_norm", [&]<class T>() { backward<T>(problem); });
}

}  // namespace weft::kernels
#endif
