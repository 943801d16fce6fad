#include "kernels/cross_entropy.h"

#include "kernels/compute_type.h"
#include "kernels/cpu/operator_targets.h"
#include "kernels/cpu/staging.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/cross_entropy.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include "kernels/cpu/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace weft::kernels {
namespace HWY_NAMESPACE {
namespace {

using namespace simd;

// The row is read from memory once: its second reading comes from cache.
template <class R>
HWY_INLINE R log_sum_exp(const R* x, std::size_t n) {
  const hn::ScalableTag<R> d;
  const R top = max_of(d, n, x);
  const auto shift = hn::Set(d, top);
  return top + std::log(sum_lanes(d, n, [&](auto lanes, std::size_t i) HWY_ATTR {
           return exp(d, hn::Sub(lanes.load(x + i), shift));
         }));
}

template <class R>
HWY_INLINE void scaled_probabilities(const R* x, std::size_t n, R log_sum, R scale, R* out) {
  const hn::ScalableTag<R> d;
  const auto shift = hn::Set(d, log_sum), factor = hn::Set(d, scale);
  for_lanes(d, n, [&](auto lanes, std::size_t i) HWY_ATTR {
    lanes.store(hn::Mul(exp(d, hn::Sub(lanes.load(x + i), shift)), factor), out + i);
  });
}

float log_sum_exp_f32(const float* x, std::size_t n) { return log_sum_exp(x, n); }
double log_sum_exp_f64(const double* x, std::size_t n) { return log_sum_exp(x, n); }
void probabilities_f32(const float* x, std::size_t n, float log_sum, float scale, float* out) {
  scaled_probabilities(x, n, log_sum, scale, out);
}
void probabilities_f64(const double* x, std::size_t n, double log_sum, double scale, double* out) {
  scaled_probabilities(x, n, log_sum, scale, out);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace weft::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {
namespace {

HWY_EXPORT(log_sum_exp_f32);
HWY_EXPORT(log_sum_exp_f64);
HWY_EXPORT(probabilities_f32);
HWY_EXPORT(probabilities_f64);

float log_sum_exp(const float* x, std::size_t n) {
  return HWY_DYNAMIC_DISPATCH(log_sum_exp_f32)(x, n);
}
double log_sum_exp(const double* x, std::size_t n) {
  return HWY_DYNAMIC_DISPATCH(log_sum_exp_f64)(x, n);
}
void probabilities(const float* x, std::size_t n, float log_sum, float scale, float* out) {
  HWY_DYNAMIC_DISPATCH(probabilities_f32)(x, n, log_sum, scale, out);
}
void probabilities(const double* x, std::size_t n, double log_sum, double scale, double* out) {
  HWY_DYNAMIC_DISPATCH(probabilities_f64)(x, n, log_sum, scale, out);
}

template <class I>
void check_targets(const CrossEntropy& p) {
  const I* targets = static_cast<const I*>(p.targets);
  for (std::int64_t r = 0; r < p.rows; ++r) {
    const std::int64_t target = targets[r];
    if (target == p.ignore_index || (target >= 0 && target < p.classes)) continue;
    fail<InvalidArgument>(
        "cross_entropy: target {} of row {} is outside [0, {}) and is not ignore_index {}; check "
        "the labels against the number of classes",
        target, r, p.classes, p.ignore_index);
  }
}

template <class T, class I>
CrossEntropyLoss forward(const CrossEntropy& p) {
  using R = Real<T>;
  check_targets<I>(p);
  const std::int64_t n = p.classes;
  const I* targets = static_cast<const I*>(p.targets);
  R* log_sums = static_cast<R*>(p.log_sum_exp);
  std::vector<double> losses(static_cast<std::size_t>(p.rows), 0.0);
  parallel_for(p.rows, grain_rows(n), [&](std::int64_t begin, std::int64_t end) {
    Reader<T> in;
    for (std::int64_t r = begin; r < end; ++r) {
      if (targets[r] == p.ignore_index) {
        log_sums[r] = R(0);
        continue;
      }
      const R* x = in.read(static_cast<const T*>(p.logits) + r * n, n);
      log_sums[r] = log_sum_exp(x, static_cast<std::size_t>(n));
      losses[static_cast<std::size_t>(r)] = static_cast<double>(log_sums[r] - x[targets[r]]);
    }
  });
  CrossEntropyLoss loss;
  for (std::int64_t r = 0; r < p.rows; ++r) {
    if (targets[r] == p.ignore_index) continue;
    loss.sum += losses[static_cast<std::size_t>(r)];
    ++loss.counted;
  }
  return loss;
}

template <class T, class I>
void backward(const CrossEntropy& p, double scale, T* dlogits) {
  using R = Real<T>;
  const std::int64_t n = p.classes;
  const I* targets = static_cast<const I*>(p.targets);
  const R* log_sums = static_cast<const R*>(p.log_sum_exp);
  parallel_for(p.rows, grain_rows(n), [&](std::int64_t begin, std::int64_t end) {
    Reader<T> in;
    Writer<T> out;
    for (std::int64_t r = begin; r < end; ++r) {
      T* to = dlogits + r * n;
      R* gradient = out.begin(to, n);
      if (targets[r] == p.ignore_index) {
        std::fill(gradient, gradient + n, R(0));
      } else {
        const R* x = in.read(static_cast<const T*>(p.logits) + r * n, n);
        probabilities(x, static_cast<std::size_t>(n), log_sums[r], static_cast<R>(scale), gradient);
        gradient[targets[r]] -= static_cast<R>(scale);
      }
      out.end(to, n);
    }
  });
}

}  // namespace

CrossEntropyLoss cross_entropy(const CrossEntropy& problem) {
  CrossEntropyLoss loss;
  dispatch_floating(problem.dtype, "cross_entropy", [&]<class T>() {
    dispatch_index(problem.target_type, "cross_entropy",
                   [&]<class I>() { loss = forward<T, I>(problem); });
  });
  return loss;
}

void cross_entropy_backward(const CrossEntropy& problem, double scale, void* dlogits) {
  dispatch_floating(problem.dtype, "cross_entropy", [&]<class T>() {
    dispatch_index(problem.target_type, "cross_entropy",
                   [&]<class I>() { backward<T, I>(problem, scale, static_cast<T*>(dlogits)); });
  });
}

}  // namespace weft::kernels
#endif
