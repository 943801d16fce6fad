#include "kernels/cpu/attention_rows.h"

#include <algorithm>
#include <limits>

#include "kernels/cpu/operator_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_rows.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include "kernels/cpu/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace weft::kernels {
namespace HWY_NAMESPACE {
namespace {

using namespace simd;

template <class R>
HWY_INLINE void scale_row(R* row, std::size_t n, R factor) {
  const hn::ScalableTag<R> d;
  const auto f = hn::Set(d, factor);
  for_lanes(d, n, [&](auto lanes, std::size_t i) HWY_ATTR {
    lanes.store(hn::Mul(lanes.load(row + i), f), row + i);
  });
}

template <class R>
HWY_INLINE void advance(const ScoreTile<R>& tile, const RunningSoftmax<R>& state) {
  const hn::ScalableTag<R> d;
  for (std::int64_t r = 0; r < tile.rows; ++r) {
    R* s = tile.scores + r * tile.stride;
    const R* mask = tile.mask == nullptr ? nullptr : tile.mask + r * tile.stride;
    const auto n = static_cast<std::size_t>(tile.visible(r));
    const R before = state.first ? -std::numeric_limits<R>::infinity() : state.maximum[r];
    const R tile_top = max_of(d, n, s);
    const R top = tile_top > before ? tile_top : before;
    const auto shift = hn::Set(d, top);
    const R sum = sum_lanes(d, n, [&](auto lanes, std::size_t i) HWY_ATTR {
      const auto e = exp(d, hn::Sub(lanes.load(s + i), shift));
      lanes.store(mask == nullptr ? e : hn::Mul(e, lanes.load(mask + i)), s + i);
      return e;
    });
    std::fill(s + n, s + tile.columns, R(0));
    if (state.first) {
      state.sum[r] = sum;
    } else {
      const R decay = top > before ? std::exp(before - top) : R(1);
      state.sum[r] = state.sum[r] * decay + sum;
      if (decay != R(1)) {
        scale_row(state.output + r * state.stride, static_cast<std::size_t>(state.width), decay);
      }
    }
    state.maximum[r] = top;
  }
}

template <class R>
HWY_INLINE void finish(std::int64_t rows, const RunningSoftmax<R>& state, R* log_sum_exp) {
  for (std::int64_t r = 0; r < rows; ++r) {
    scale_row(state.output + r * state.stride, static_cast<std::size_t>(state.width),
              R(1) / state.sum[r]);
    log_sum_exp[r] = state.maximum[r] + std::log(state.sum[r]);
  }
}

template <class R>
HWY_INLINE void tile_gradient(const ScoreTile<R>& tile, R* gradient, const R* log_sum_exp,
                              const R* dot, R scale) {
  const hn::ScalableTag<R> d;
  const auto factor = hn::Set(d, scale);
  for (std::int64_t r = 0; r < tile.rows; ++r) {
    R* s = tile.scores + r * tile.stride;
    R* g = gradient + r * tile.stride;
    const R* mask = tile.mask == nullptr ? nullptr : tile.mask + r * tile.stride;
    const auto n = static_cast<std::size_t>(tile.visible(r));
    const auto shift = hn::Set(d, log_sum_exp[r]);
    const auto mean = hn::Set(d, dot[r]);
    for_lanes(d, n, [&](auto lanes, std::size_t i) HWY_ATTR {
      const auto p = exp(d, hn::Sub(lanes.load(s + i), shift));
      auto dp = lanes.load(g + i);
      auto kept = p;
      if (mask != nullptr) {
        const auto m = lanes.load(mask + i);
        dp = hn::Mul(dp, m);
        kept = hn::Mul(p, m);
      }
      lanes.store(kept, s + i);
      lanes.store(hn::Mul(hn::Mul(p, hn::Sub(dp, mean)), factor), g + i);
    });
    std::fill(s + n, s + tile.columns, R(0));
    std::fill(g + n, g + tile.columns, R(0));
  }
}

template <class R>
HWY_INLINE void dots(std::int64_t rows, std::int64_t width, const R* a, std::int64_t stride_a,
                     const R* b, std::int64_t stride_b, R* dot) {
  const hn::ScalableTag<R> d;
  for (std::int64_t r = 0; r < rows; ++r) {
    const R* x = a + r * stride_a;
    const R* y = b + r * stride_b;
    dot[r] = sum_lanes(d, static_cast<std::size_t>(width), [&](auto lanes, std::size_t i) HWY_ATTR {
      return hn::Mul(lanes.load(x + i), lanes.load(y + i));
    });
  }
}

void advance_f32(const ScoreTile<float>& t, const RunningSoftmax<float>& s) { advance(t, s); }
void advance_f64(const ScoreTile<double>& t, const RunningSoftmax<double>& s) { advance(t, s); }
void finish_f32(std::int64_t rows, const RunningSoftmax<float>& s, float* l) { finish(rows, s, l); }
void finish_f64(std::int64_t rows, const RunningSoftmax<double>& s, double* l) {
  finish(rows, s, l);
}
void gradient_f32(const ScoreTile<float>& t, float* g, const float* l, const float* dot, float c) {
  tile_gradient(t, g, l, dot, c);
}
void gradient_f64(const ScoreTile<double>& t, double* g, const double* l, const double* dot,
                  double c) {
  tile_gradient(t, g, l, dot, c);
}
void dots_f32(std::int64_t rows, std::int64_t width, const float* a, std::int64_t stride_a,
              const float* b, std::int64_t stride_b, float* dot) {
  dots(rows, width, a, stride_a, b, stride_b, dot);
}
void dots_f64(std::int64_t rows, std::int64_t width, const double* a, std::int64_t stride_a,
              const double* b, std::int64_t stride_b, double* dot) {
  dots(rows, width, a, stride_a, b, stride_b, dot);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace weft::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {
namespace {
HWY_EXPORT(advance_f32);
HWY_EXPORT(advance_f64);
HWY_EXPORT(finish_f32);
HWY_EXPORT(finish_f64);
HWY_EXPORT(gradient_f32);
HWY_EXPORT(gradient_f64);
HWY_EXPORT(dots_f32);
HWY_EXPORT(dots_f64);
}  // namespace

void advance_softmax(const ScoreTile<float>& tile, const RunningSoftmax<float>& state) {
  HWY_DYNAMIC_DISPATCH(advance_f32)(tile, state);
}
void advance_softmax(const ScoreTile<double>& tile, const RunningSoftmax<double>& state) {
  HWY_DYNAMIC_DISPATCH(advance_f64)(tile, state);
}

void finish_softmax(std::int64_t rows, const RunningSoftmax<float>& state, float* log_sum_exp) {
  HWY_DYNAMIC_DISPATCH(finish_f32)(rows, state, log_sum_exp);
}
void finish_softmax(std::int64_t rows, const RunningSoftmax<double>& state, double* log_sum_exp) {
  HWY_DYNAMIC_DISPATCH(finish_f64)(rows, state, log_sum_exp);
}

void softmax_tile_gradient(const ScoreTile<float>& tile, float* gradient, const float* log_sum_exp,
                           const float* dot, float scale) {
  HWY_DYNAMIC_DISPATCH(gradient_f32)(tile, gradient, log_sum_exp, dot, scale);
}
void softmax_tile_gradient(const ScoreTile<double>& tile, double* gradient,
                           const double* log_sum_exp, const double* dot, double scale) {
  HWY_DYNAMIC_DISPATCH(gradient_f64)(tile, gradient, log_sum_exp, dot, scale);
}

void row_dots(std::int64_t rows, std::int64_t width, const float* a, std::int64_t stride_a,
              const float* b, std::int64_t stride_b, float* dot) {
  HWY_DYNAMIC_DISPATCH(dots_f32)(rows, width, a, stride_a, b, stride_b, dot);
}
void row_dots(std::int64_t rows, std::int64_t width, const double* a, std::int64_t stride_a,
              const double* b, std::int64_t stride_b, double* dot) {
  HWY_DYNAMIC_DISPATCH(dots_f64)(rows, width, a, stride_a, b, stride_b, dot);
}

}  // namespace weft::kernels
#endif
