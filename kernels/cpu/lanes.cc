#include "kernels/cpu/lanes.h"

#include <cmath>

#include "kernels/cpu/targets.h"
#include "kernels/functors/convert.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/lanes.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include "kernels/cpu/half-inl.h"
#include "kernels/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

// The tail takes the same path as the rest, so a result does not depend on where ranges end.
template <class T, class Op>
HWY_INLINE void map1(T* out, const T* in, std::size_t count, Op op) {
  using E = Element<T>;
  const typename E::D d;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) E::store(d, op(d, E::load(d, in + i)), out + i);
  if (i < count) {
    E::store_some(d, op(d, E::load_some(d, in + i, count - i)), out + i, count - i);
  }
}

template <class T, class Op>
HWY_INLINE void map2(T* out, const T* a, const T* b, std::size_t count, Op op) {
  using E = Element<T>;
  const typename E::D d;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    E::store(d, op(d, E::load(d, a + i), E::load(d, b + i)), out + i);
  }
  if (i < count) {
    const std::size_t left = count - i;
    const auto result = op(d, E::load_some(d, a + i, left), E::load_some(d, b + i, left));
    E::store_some(d, result, out + i, left);
  }
}

// Exponents that have a cheap exact form; others go one by one through std::pow.
bool has_vector_power(double exponent) {
  return exponent == 2.0 || exponent == 1.0 || exponent == 3.0 || exponent == 0.0 ||
         exponent == 0.5 || exponent == -0.5 || exponent == -1.0 || exponent == -2.0;
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V vector_power(D d, V x, double exponent) {
  const V one = hn::Set(d, static_cast<hn::TFromD<D>>(1));
  if (exponent == 2.0) return hn::Mul(x, x);
  if (exponent == 3.0) return hn::Mul(hn::Mul(x, x), x);
  if (exponent == 0.0) return one;
  if (exponent == 0.5) return hn::Sqrt(x);
  if (exponent == -0.5) return hn::Div(one, hn::Sqrt(x));
  if (exponent == -1.0) return hn::Div(one, x);
  if (exponent == -2.0) return hn::Div(one, hn::Mul(x, x));
  return x;
}

template <class T>
void power(T* out, const T* in, std::size_t count, double exponent) {
  if (has_vector_power(exponent)) {
    return map1(out, in, count,
                [=](auto d, auto x) HWY_ATTR { return vector_power(d, x, exponent); });
  }
  for (std::size_t i = 0; i < count; ++i) {
    out[i] = static_cast<T>(std::pow(static_cast<double>(in[i]), exponent));
  }
}

template <class T>
void power_backward(T* out, const T* gradient, const T* x, std::size_t count, double exponent) {
  const T factor = static_cast<T>(exponent);
  if (exponent == 0.0) {
    for (std::size_t i = 0; i < count; ++i) out[i] = 0;
  } else if (has_vector_power(exponent - 1.0)) {
    map2(out, gradient, x, count, [=](auto d, auto a, auto b) HWY_ATTR {
      return hn::Mul(hn::Mul(a, hn::Set(d, factor)), vector_power(d, b, exponent - 1.0));
    });
  } else {
    for (std::size_t i = 0; i < count; ++i) {
      out[i] = static_cast<T>(static_cast<double>(gradient[i]) * exponent *
                              std::pow(static_cast<double>(x[i]), exponent - 1.0));
    }
  }
}

template <class T>
void unary_floating(UnaryOp op, T* out, const T* in, std::size_t n, double scalar) {
  const T s = static_cast<T>(scalar);
  switch (op) {
    case UnaryOp::neg:
      return map1(out, in, n, [](auto, auto x) HWY_ATTR { return hn::Neg(x); });
    case UnaryOp::abs:
      return map1(out, in, n, [](auto, auto x) HWY_ATTR { return hn::Abs(x); });
    case UnaryOp::exp:
      return map1(out, in, n, [](auto d, auto x) HWY_ATTR { return vector_exp(d, x); });
    case UnaryOp::log:
      return map1(out, in, n, [](auto d, auto x) HWY_ATTR { return vector_log(d, x); });
    case UnaryOp::sqrt:
      return map1(out, in, n, [](auto, auto x) HWY_ATTR { return hn::Sqrt(x); });
    case UnaryOp::tanh:
      return map1(out, in, n, [](auto d, auto x) HWY_ATTR { return vector_tanh(d, x); });
    case UnaryOp::sigmoid:
      return map1(out, in, n, [](auto d, auto x) HWY_ATTR { return vector_sigmoid(d, x); });
    case UnaryOp::relu:
      return map1(out, in, n, [](auto d, auto x) HWY_ATTR {
        return hn::IfThenZeroElse(hn::Lt(x, hn::Zero(d)), x);
      });
    case UnaryOp::pow:
      return power(out, in, n, scalar);
    case UnaryOp::add_scalar:
      return map1(out, in, n, [s](auto d, auto x) HWY_ATTR { return hn::Add(x, hn::Set(d, s)); });
    case UnaryOp::mul_scalar:
      return map1(out, in, n, [s](auto d, auto x) HWY_ATTR { return hn::Mul(x, hn::Set(d, s)); });
  }
}

// NaN where either side is.
template <bool kMax, class V>
HWY_INLINE V extreme(V a, V b) {
  const auto keep = kMax ? hn::Gt(a, b) : hn::Lt(a, b);
  return hn::IfThenElse(hn::IsNaN(a), a, hn::IfThenElse(keep, a, b));
}

template <class T>
void binary_backward(BinaryOp op, T* out, const T* a, const T* b, std::size_t n, double scalar) {
  switch (op) {
    case BinaryOp::sqrt_backward:
      return map2(out, a, b, n,
                  [](auto, auto g, auto y) HWY_ATTR { return hn::Div(g, hn::Add(y, y)); });
    case BinaryOp::tanh_backward:
      return map2(out, a, b, n, [](auto d, auto g, auto y) HWY_ATTR {
        return hn::Mul(g, hn::NegMulAdd(y, y, hn::Set(d, T(1))));
      });
    case BinaryOp::sigmoid_backward:
      return map2(out, a, b, n, [](auto d, auto g, auto y) HWY_ATTR {
        return hn::Mul(hn::Mul(g, y), hn::Sub(hn::Set(d, T(1)), y));
      });
    case BinaryOp::relu_backward:
      return map2(out, a, b, n, [](auto d, auto g, auto y) HWY_ATTR {
        return hn::IfThenElseZero(hn::Gt(y, hn::Zero(d)), g);
      });
    case BinaryOp::abs_backward:
      return map2(out, a, b, n, [](auto d, auto g, auto x) HWY_ATTR {
        const auto zero = hn::Zero(d);
        const auto down = hn::IfThenElseZero(hn::Lt(x, zero), hn::Neg(g));
        return hn::IfThenElse(hn::Gt(x, zero), g, down);
      });
    default:
      return power_backward(out, a, b, n, scalar);
  }
}

template <class T>
void binary_floating(BinaryOp op, T* out, const T* a, const T* b, std::size_t n, double scalar) {
  switch (op) {
    case BinaryOp::add:
      return map2(out, a, b, n, [](auto, auto x, auto y) HWY_ATTR { return hn::Add(x, y); });
    case BinaryOp::sub:
      return map2(out, a, b, n, [](auto, auto x, auto y) HWY_ATTR { return hn::Sub(x, y); });
    case BinaryOp::mul:
      return map2(out, a, b, n, [](auto, auto x, auto y) HWY_ATTR { return hn::Mul(x, y); });
    case BinaryOp::div:
      return map2(out, a, b, n, [](auto, auto x, auto y) HWY_ATTR { return hn::Div(x, y); });
    case BinaryOp::max:
      return map2(out, a, b, n, [](auto, auto x, auto y) HWY_ATTR { return extreme<true>(x, y); });
    case BinaryOp::min:
      return map2(out, a, b, n, [](auto, auto x, auto y) HWY_ATTR { return extreme<false>(x, y); });
    default:
      return binary_backward(op, out, a, b, n, scalar);
  }
}

// Integers wrap: arithmetic is done unsigned. The compiler vectorises these loops well enough.
template <class T>
void unary_integer(UnaryOp op, T* out, const T* in, std::size_t n, double scalar) {
  using U = std::uint64_t;
  const U s = static_cast<U>(integer_from<std::int64_t>(scalar));
  const auto map = [&](auto f) {
    for (std::size_t i = 0; i < n; ++i) out[i] = f(in[i]);
  };
  switch (op) {
    case UnaryOp::neg:
      return map([](T x) { return static_cast<T>(U{0} - static_cast<U>(x)); });
    case UnaryOp::abs:
      return map([](T x) { return x < T(0) ? static_cast<T>(U{0} - static_cast<U>(x)) : x; });
    case UnaryOp::relu:
      return map([](T x) { return x < T(0) ? T(0) : x; });
    case UnaryOp::add_scalar:
      return map([s](T x) { return static_cast<T>(static_cast<U>(x) + s); });
    default:
      return map([s](T x) { return static_cast<T>(static_cast<U>(x) * s); });
  }
}

template <class T>
void binary_integer(BinaryOp op, T* out, const T* a, const T* b, std::size_t n) {
  using U = std::uint64_t;
  const auto map = [&](auto f) {
    for (std::size_t i = 0; i < n; ++i) out[i] = f(a[i], b[i]);
  };
  switch (op) {
    case BinaryOp::add:
      return map([](T x, T y) { return static_cast<T>(static_cast<U>(x) + static_cast<U>(y)); });
    case BinaryOp::sub:
      return map([](T x, T y) { return static_cast<T>(static_cast<U>(x) - static_cast<U>(y)); });
    case BinaryOp::mul:
      return map([](T x, T y) { return static_cast<T>(static_cast<U>(x) * static_cast<U>(y)); });
    case BinaryOp::max:
      return map([](T x, T y) { return x < y ? y : x; });
    default:
      return map([](T x, T y) { return y < x ? y : x; });
  }
}

template <class Visitor>
void with_lanes_type(DType dtype, Visitor&& visitor) {
  switch (dtype) {
    case DType::f64:
      return visitor(double{});
    case DType::i64:
      return visitor(std::int64_t{});
    case DType::i32:
      return visitor(std::int32_t{});
    case DType::u8:
      return visitor(std::uint8_t{});
    default:
      return visitor(float{});
  }
}

void unary_lanes(UnaryOp op, DType dtype, void* out, const void* in, std::size_t n, double scalar) {
  with_lanes_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_integral_v<T>) {
      unary_integer(op, static_cast<T*>(out), static_cast<const T*>(in), n, scalar);
    } else {
      unary_floating(op, static_cast<T*>(out), static_cast<const T*>(in), n, scalar);
    }
  });
}

void binary_lanes(BinaryOp op, DType dtype, void* out, const void* a, const void* b, std::size_t n,
                  double scalar) {
  with_lanes_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* const x = static_cast<const T*>(a);
    const T* const y = static_cast<const T*>(b);
    if constexpr (std::is_integral_v<T>) {
      binary_integer(op, static_cast<T*>(out), x, y, n);
    } else {
      binary_floating(op, static_cast<T*>(out), x, y, n, scalar);
    }
  });
}

void accumulate_lanes(DType dtype, void* y, const void* x, std::size_t n, double alpha) {
  with_lanes_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    T* const to = static_cast<T*>(y);
    const T* const from = static_cast<const T*>(x);
    if constexpr (std::is_integral_v<T>) {
      using U = std::uint64_t;
      const U s = static_cast<U>(integer_from<std::int64_t>(alpha));
      for (std::size_t i = 0; i < n; ++i) {
        to[i] = static_cast<T>(static_cast<U>(to[i]) + s * static_cast<U>(from[i]));
      }
    } else if (alpha == 1.0) {
      map2(to, to, from, n, [](auto, auto a, auto b) HWY_ATTR { return hn::Add(a, b); });
    } else {
      const T s = static_cast<T>(alpha);
      map2(to, to, from, n,
           [s](auto d, auto a, auto b) HWY_ATTR { return hn::MulAdd(hn::Set(d, s), b, a); });
    }
  });
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {

HWY_EXPORT(unary_lanes);
HWY_EXPORT(binary_lanes);
HWY_EXPORT(accumulate_lanes);

namespace lanes {

bool serves(UnaryOp op, DType dtype) {
  return is_floating(dtype) || op == UnaryOp::neg || op == UnaryOp::abs || op == UnaryOp::relu ||
         op == UnaryOp::add_scalar || op == UnaryOp::mul_scalar;
}

bool serves(BinaryOp op, DType dtype) {
  return is_floating(dtype) || op == BinaryOp::add || op == BinaryOp::sub || op == BinaryOp::mul ||
         op == BinaryOp::max || op == BinaryOp::min;
}

void unary(UnaryOp op, DType dtype, void* out, const void* in, std::size_t count, double scalar) {
  HWY_DYNAMIC_DISPATCH(unary_lanes)(op, dtype, out, in, count, scalar);
}

void binary(BinaryOp op, DType dtype, void* out, const void* a, const void* b, std::size_t count,
            double scalar) {
  HWY_DYNAMIC_DISPATCH(binary_lanes)(op, dtype, out, a, b, count, scalar);
}

void accumulate(DType dtype, void* y, const void* x, std::size_t count, double alpha) {
  HWY_DYNAMIC_DISPATCH(accumulate_lanes)(dtype, y, x, count, alpha);
}

}  // namespace lanes
}  // namespace weft::kernels
#endif
