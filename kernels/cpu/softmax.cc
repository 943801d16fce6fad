#include "kernels/softmax.h"

#include "kernels/cpu/operator_targets.h"
#include "kernels/cpu/staging.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/softmax.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include "kernels/cpu/simd_math-inl.h"

#ifndef WEFT_KERNELS_CPU_SOFTMAX_ONCE
#define WEFT_KERNELS_CPU_SOFTMAX_ONCE
namespace weft::kernels {
namespace {

template <class R>
struct SoftmaxRows {
  SoftmaxKind kind;
  std::size_t rows, columns;
  const R *dy, *in;  // in: x forward, y backward
  R* out;
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
HWY_INLINE void forward(const SoftmaxRows<R>& a) {
  const hn::ScalableTag<R> d;
  const std::size_t n = a.columns;
  for (std::size_t r = 0; r < a.rows; ++r) {
    const R* x = a.in + r * n;
    R* y = a.out + r * n;
    const auto top = hn::Set(d, max_of(d, n, x));
    if (a.kind == SoftmaxKind::log) {
      const R sum = sum_lanes(d, n, [&](auto lanes, std::size_t i) HWY_ATTR {
        return exp(d, hn::Sub(lanes.load(x + i), top));
      });
      const auto shift = hn::Set(d, std::log(sum));
      for_lanes(d, n, [&](auto lanes, std::size_t i) HWY_ATTR {
        lanes.store(hn::Sub(hn::Sub(lanes.load(x + i), top), shift), y + i);
      });
    } else {
      const R sum = sum_lanes(d, n, [&](auto lanes, std::size_t i) HWY_ATTR {
        const auto e = exp(d, hn::Sub(lanes.load(x + i), top));
        lanes.store(e, y + i);
        return e;
      });
      const auto factor = hn::Set(d, R(1) / sum);
      for_lanes(d, n, [&](auto lanes, std::size_t i) HWY_ATTR {
        lanes.store(hn::Mul(lanes.load(y + i), factor), y + i);
      });
    }
  }
}

// plain: dx = y (dy - sum(dy y)); log: dx = dy - e^y sum(dy).
template <class R>
HWY_INLINE void backward(const SoftmaxRows<R>& a) {
  const hn::ScalableTag<R> d;
  const std::size_t n = a.columns;
  for (std::size_t r = 0; r < a.rows; ++r) {
    const R* y = a.in + r * n;
    const R* dy = a.dy + r * n;
    R* dx = a.out + r * n;
    const bool log = a.kind == SoftmaxKind::log;
    const R total = sum_lanes(d, n, [&](auto lanes, std::size_t i) HWY_ATTR {
      const auto g = lanes.load(dy + i);
      return log ? g : hn::Mul(g, lanes.load(y + i));
    });
    const auto sum = hn::Set(d, total);
    for_lanes(d, n, [&](auto lanes, std::size_t i) HWY_ATTR {
      const auto g = lanes.load(dy + i), v = lanes.load(y + i);
      lanes.store(log ? hn::NegMulAdd(exp(d, v), sum, g) : hn::Mul(v, hn::Sub(g, sum)), dx + i);
    });
  }
}

void forward_f32(const SoftmaxRows<float>& a) { forward(a); }
void forward_f64(const SoftmaxRows<double>& a) { forward(a); }
void backward_f32(const SoftmaxRows<float>& a) { backward(a); }
void backward_f64(const SoftmaxRows<double>& a) { backward(a); }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace weft::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {
namespace {

HWY_EXPORT(forward_f32);
HWY_EXPORT(forward_f64);
HWY_EXPORT(backward_f32);
HWY_EXPORT(backward_f64);

void run(const SoftmaxRows<float>& a) {
  if (a.dy == nullptr) return HWY_DYNAMIC_DISPATCH(forward_f32)(a);
  HWY_DYNAMIC_DISPATCH(backward_f32)(a);
}
void run(const SoftmaxRows<double>& a) {
  if (a.dy == nullptr) return HWY_DYNAMIC_DISPATCH(forward_f64)(a);
  HWY_DYNAMIC_DISPATCH(backward_f64)(a);
}

// dy == nullptr: forward.
void share_out(SoftmaxKind kind, DType dtype, std::int64_t rows, std::int64_t columns,
               const void* dy, const void* in, void* out) {
  if (columns == 0) return;
  dispatch_floating(dtype, "softmax", [&]<class T>() {
    parallel_for(rows, grain_rows(columns), [&](std::int64_t begin, std::int64_t end) {
      Reader<T> readers[2];
      Writer<T> writer;
      for_staged_rows<T>(begin, end, columns, [&](std::int64_t row, std::int64_t n) {
        const std::int64_t at = row * columns, count = n * columns;
        const T* gradient = dy == nullptr ? nullptr : static_cast<const T*>(dy) + at;
        T* to = static_cast<T*>(out) + at;
        run(SoftmaxRows<Real<T>>{
            kind, static_cast<std::size_t>(n), static_cast<std::size_t>(columns),
            readers[0].read(gradient, count),
            readers[1].read(static_cast<const T*>(in) + at, count), writer.begin(to, count)});
        writer.end(to, count);
      });
    });
  });
}

}  // namespace

void softmax(SoftmaxKind kind, DType dtype, std::int64_t rows, std::int64_t columns, const void* x,
             void* y) {
  share_out(kind, dtype, rows, columns, nullptr, x, y);
}

void softmax_backward(SoftmaxKind kind, DType dtype, std::int64_t rows, std::int64_t columns,
                      const void* dy, const void* y, void* dx) {
  share_out(kind, dtype, rows, columns, dy, y, dx);
}

}  // namespace weft::kernels
#endif
