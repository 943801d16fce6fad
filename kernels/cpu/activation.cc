#include "kernels/activation.h"

#include "kernels/cpu/operator_targets.h"
#include "kernels/cpu/staging.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/activation.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include "kernels/cpu/simd_math-inl.h"

#ifndef WEFT_KERNELS_CPU_ACTIVATION_ONCE
#define WEFT_KERNELS_CPU_ACTIVATION_ONCE
namespace weft::kernels {
namespace {

enum class Curve { gelu_exact, gelu_tanh, relu, identity };

// y = curve(x), or dx = dy * curve'(x) and dbias += dx over rows.
template <class R>
struct CurveRows {
  Curve curve;
  std::size_t rows, columns;
  const R *dy, *x;
  R *out, *dbias;  // dbias may be nullptr
};

}  // namespace
}  // namespace weft::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace weft::kernels {
namespace HWY_NAMESPACE {
namespace {

using namespace simd;

constexpr double kSqrtTwoOverPi = 0.79788456080286535588;
constexpr double kCubic = 0.044715;

// tanh form: x/2 (1 + tanh u) = x sigmoid(2u), which does not cancel for negative x.
template <class D>
HWY_INLINE hn::Vec<D> twice_u(D d, hn::Vec<D> x) {
  using T = hn::TFromD<D>;
  const auto cubic = hn::Set(d, static_cast<T>(2 * kSqrtTwoOverPi * kCubic));
  const auto linear = hn::Set(d, static_cast<T>(2 * kSqrtTwoOverPi));
  return hn::Mul(x, hn::MulAdd(hn::Mul(x, x), cubic, linear));
}

struct GeluTanh {
  template <class D>
  HWY_INLINE hn::Vec<D> value(D d, hn::Vec<D> x) const {
    const auto one = hn::Set(d, hn::TFromD<D>(1));
    return hn::Div(x, hn::Add(one, exp(d, hn::Neg(twice_u(d, x)))));
  }
  template <class D>
  HWY_INLINE hn::Vec<D> slope(D d, hn::Vec<D> x) const {
    using T = hn::TFromD<D>;
    const auto one = hn::Set(d, T(1));
    const auto s = sigmoid(d, twice_u(d, x));
    const auto du =
        hn::MulAdd(hn::Mul(x, x), hn::Set(d, static_cast<T>(6 * kSqrtTwoOverPi * kCubic)),
                   hn::Set(d, static_cast<T>(2 * kSqrtTwoOverPi)));
    // Where the sigmoid is 0 or 1 the product vanishes, however large x du is.
    const auto bell = hn::Mul(s, hn::Sub(one, s));
    const auto rest = hn::IfThenZeroElse(hn::Eq(bell, hn::Zero(d)), hn::Mul(hn::Mul(x, du), bell));
    return hn::Add(s, rest);
  }
};

struct GeluExact {
  // The normal distribution function; float by Abramowitz, Stegun 7.1.26.
  template <class D>
  HWY_INLINE hn::Vec<D> distribution(D d, hn::Vec<D> x, hn::Vec<D> bell) const {
    using T = hn::TFromD<D>;
    if constexpr (sizeof(T) == 8) {
      return by_lane(d, x, [](double v) { return 0.5 * std::erfc(-v * 0.70710678118654752440); });
    } else {
      const auto one = hn::Set(d, T(1));
      const auto z = hn::Mul(hn::Abs(x), hn::Set(d, T(0.70710678118654752440)));
      const auto t = hn::Div(one, hn::MulAdd(z, hn::Set(d, T(0.3275911)), one));
      auto p = hn::Set(d, T(1.061405429));
      p = hn::MulAdd(p, t, hn::Set(d, T(-1.453152027)));
      p = hn::MulAdd(p, t, hn::Set(d, T(1.421413741)));
      p = hn::MulAdd(p, t, hn::Set(d, T(-0.284496736)));
      p = hn::MulAdd(p, t, hn::Set(d, T(0.254829592)));
      const auto tail = hn::Mul(hn::Mul(hn::Set(d, T(0.5)), hn::Mul(p, t)), bell);
      return hn::IfThenElse(hn::Lt(x, hn::Zero(d)), tail, hn::Sub(one, tail));
    }
  }
  // e^(-x^2/2)
  template <class D>
  HWY_INLINE hn::Vec<D> bell(D d, hn::Vec<D> x) const {
    return exp(d, hn::Mul(hn::Mul(x, x), hn::Set(d, hn::TFromD<D>(-0.5))));
  }
  template <class D>
  HWY_INLINE hn::Vec<D> value(D d, hn::Vec<D> x) const {
    return hn::Mul(x, distribution(d, x, bell(d, x)));
  }
  template <class D>
  HWY_INLINE hn::Vec<D> slope(D d, hn::Vec<D> x) const {
    const auto b = bell(d, x);
    const auto density = hn::Mul(b, hn::Set(d, hn::TFromD<D>(0.39894228040143267794)));
    return hn::MulAdd(x, density, distribution(d, x, b));
  }
};

struct Relu {
  // Written so that NaN passes: NaN < 0 is false.
  template <class D>
  HWY_INLINE hn::Vec<D> value(D d, hn::Vec<D> x) const {
    return hn::IfThenZeroElse(hn::Lt(x, hn::Zero(d)), x);
  }
  template <class D>
  HWY_INLINE hn::Vec<D> slope(D d, hn::Vec<D> x) const {
    return hn::IfThenElseZero(hn::Gt(x, hn::Zero(d)), hn::Set(d, hn::TFromD<D>(1)));
  }
};

template <class R, class Shape>
HWY_INLINE void apply_shape(const CurveRows<R>& a, const Shape& shape) {
  const hn::ScalableTag<R> d;
  for_lanes(d, a.rows * a.columns, [&](auto lanes, std::size_t i) HWY_ATTR {
    lanes.store(shape.value(d, lanes.load(a.x + i)), a.out + i);
  });
}

template <class R, class Shape>
HWY_INLINE void differentiate_shape(const CurveRows<R>& a, const Shape& shape) {
  const hn::ScalableTag<R> d;
  for (std::size_t r = 0; r < a.rows; ++r) {
    const std::size_t row = r * a.columns;
    for_lanes(d, a.columns, [&](auto lanes, std::size_t i) HWY_ATTR {
      const auto slope = shape.slope(d, lanes.load(a.x + row + i));
      const auto g = hn::Mul(lanes.load(a.dy + row + i), slope);
      lanes.store(g, a.out + row + i);
      if (a.dbias != nullptr) lanes.store(hn::Add(g, lanes.load(a.dbias + i)), a.dbias + i);
    });
  }
}

// Four rows at a time, so that the sums are read and written a quarter as often.
template <class R>
HWY_INLINE void add_rows(const CurveRows<R>& a) {
  const hn::ScalableTag<R> d;
  const std::size_t n = a.columns;
  for (std::size_t r = 0; r < a.rows; r += 4) {
    const R* g = a.dy + r * n;
    const std::size_t rows = HWY_MIN(a.rows - r, std::size_t{4});
    for_lanes(d, n, [&](auto lanes, std::size_t i) HWY_ATTR {
      auto sum = lanes.load(a.dbias + i);
      for (std::size_t k = 0; k < rows; ++k) sum = hn::Add(sum, lanes.load(g + k * n + i));
      lanes.store(sum, a.dbias + i);
    });
  }
}

template <class R>
HWY_INLINE void apply(const CurveRows<R>& a) {
  if (a.curve == Curve::gelu_tanh) return apply_shape(a, GeluTanh());
  if (a.curve == Curve::gelu_exact) return apply_shape(a, GeluExact());
  apply_shape(a, Relu());
}

template <class R>
HWY_INLINE void differentiate(const CurveRows<R>& a) {
  if (a.curve == Curve::gelu_tanh) return differentiate_shape(a, GeluTanh());
  if (a.curve == Curve::gelu_exact) return differentiate_shape(a, GeluExact());
  if (a.curve == Curve::relu) return differentiate_shape(a, Relu());
  add_rows(a);
}

void apply_f32(const CurveRows<float>& a) { apply(a); }
void apply_f64(const CurveRows<double>& a) { apply(a); }
void differentiate_f32(const CurveRows<float>& a) { differentiate(a); }
void differentiate_f64(const CurveRows<double>& a) { differentiate(a); }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace weft::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {
namespace {

HWY_EXPORT(apply_f32);
HWY_EXPORT(apply_f64);
HWY_EXPORT(differentiate_f32);
HWY_EXPORT(differentiate_f64);

void apply(const CurveRows<float>& a) { HWY_DYNAMIC_DISPATCH(apply_f32)(a); }
void apply(const CurveRows<double>& a) { HWY_DYNAMIC_DISPATCH(apply_f64)(a); }
void differentiate(const CurveRows<float>& a) { HWY_DYNAMIC_DISPATCH(differentiate_f32)(a); }
void differentiate(const CurveRows<double>& a) { HWY_DYNAMIC_DISPATCH(differentiate_f64)(a); }

constexpr std::size_t count_of(std::int64_t n) { return static_cast<std::size_t>(n); }

// dy == nullptr: forward.
void elementwise(Curve curve, DType dtype, Elems count, const void* dy, const void* x, void* out) {
  dispatch_floating(dtype, "activation", [&]<class T>() {
    parallel_for(count.value, kGrainElems, [&](std::int64_t begin, std::int64_t end) {
      Reader<T> x_in, dy_in;
      Writer<T> writer;
      for_staged_rows<T>(begin, end, 1, [&](std::int64_t first, std::int64_t n) {
        T* to = static_cast<T*>(out) + first;
        const auto* from = x_in.read(static_cast<const T*>(x) + first, n);
        if (dy == nullptr) {
          apply(CurveRows<Real<T>>{curve, 1, count_of(n), nullptr, from, writer.begin(to, n),
                                   nullptr});
        } else {
          const auto* gradient = dy_in.read(static_cast<const T*>(dy) + first, n);
          differentiate(CurveRows<Real<T>>{curve, 1, count_of(n), gradient, from,
                                           writer.begin(to, n), nullptr});
        }
        writer.end(to, n);
      });
    });
  });
}

Curve curve_of(EpilogueActivation activation) {
  if (activation == EpilogueActivation::gelu_tanh) return Curve::gelu_tanh;
  return activation == EpilogueActivation::relu ? Curve::relu : Curve::identity;
}

template <class T>
void backward_of_epilogue(const BiasActivationBackward& p) {
  using R = Real<T>;
  const std::int64_t n = p.columns;
  const Curve curve = curve_of(p.activation);
  if (curve == Curve::identity && p.dbias == nullptr) return;
  const T* dy = static_cast<const T*>(p.dy);
  const T* saved = curve == Curve::identity ? nullptr : static_cast<const T*>(p.saved);
  T* dx = curve == Curve::identity ? nullptr : static_cast<T*>(p.dx);
  std::vector<R> sums(p.dbias == nullptr ? 0 : count_of(n));
  sum_over_row_blocks(
      p.rows, static_cast<std::int64_t>(sums.size()), sums.data(),
      [&](std::int64_t begin, std::int64_t end, R* partial) {
        Reader<T> dy_in, saved_in;
        Writer<T> out;
        for_staged_rows<T>(begin, end, n, [&](std::int64_t row, std::int64_t rows) {
          const std::int64_t at = row * n, count = rows * n;
          T* to = dx == nullptr ? nullptr : dx + at;
          differentiate(CurveRows<R>{curve, count_of(rows), count_of(n), dy_in.read(dy + at, count),
                                     saved_in.read(saved == nullptr ? nullptr : saved + at, count),
                                     out.begin(to, count), p.dbias == nullptr ? nullptr : partial});
          out.end(to, count);
        });
      });
  if (p.dbias != nullptr) cast(p.dbias, dtype_of<T>, sums.data(), dtype_of<R>, Elems(n));
}

Curve curve_of(GeluKind kind) {
  return kind == GeluKind::tanh ? Curve::gelu_tanh : Curve::gelu_exact;
}

}  // namespace

void gelu(GeluKind kind, DType dtype, Elems count, const void* x, void* y) {
  elementwise(curve_of(kind), dtype, count, nullptr, x, y);
}

void gelu_backward(GeluKind kind, DType dtype, Elems count, const void* dy, const void* x,
                   void* dx) {
  elementwise(curve_of(kind), dtype, count, dy, x, dx);
}

void relu(DType dtype, Elems count, const void* x, void* y) {
  elementwise(Curve::relu, dtype, count, nullptr, x, y);
}

void relu_backward(DType dtype, Elems count, const void* dy, const void* y, void* dx) {
  elementwise(Curve::relu, dtype, count, dy, y, dx);
}

void bias_activation_backward(const BiasActivationBackward& problem) {
  dispatch_floating(problem.dtype, "bias_activation_backward",
                    [&]<class T>() { backward_of_epilogue<T>(problem); });
}

}  // namespace weft::kernels
#endif
