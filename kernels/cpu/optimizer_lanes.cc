#include "kernels/cpu/optimizer_lanes.h"

#include "kernels/base/check.h"
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/optimizer_lanes.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include "kernels/cpu/half-inl.h"

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

// Calls body(i, load, store) for whole vectors and once for what is left; load and store take a
// pointer to the array's first element.
template <class T, class Body>
HWY_INLINE void for_each_vector(std::size_t count, Body body) {
  using E = Element<T>;
  const typename E::D d;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    body([=](const T* from) HWY_ATTR { return E::load(d, from + i); },
         [=](auto value, T* to) HWY_ATTR { E::store(d, value, to + i); });
  }
  if (i < count) {
    const std::size_t left = count - i;
    body([=](const T* from) HWY_ATTR { return E::load_some(d, from + i, left); },
         [=](auto value, T* to) HWY_ATTR { E::store_some(d, value, to + i, left); });
  }
}

template <class T>
void adam_run(T* parameter, const T* gradient, T* exp_avg, T* exp_avg_sq, std::size_t count,
              const AdamFactors& a) {
  const hn::ScalableTag<T> d;
  const auto constant = [d](double value) HWY_ATTR { return hn::Set(d, static_cast<T>(value)); };
  const auto scale = constant(a.gradient_scale);
  const auto l2 = constant(a.l2);
  const auto keep = constant(a.keep);
  const auto beta1 = constant(a.beta1), rest1 = constant(1.0 - a.beta1);
  const auto beta2 = constant(a.beta2), rest2 = constant(1.0 - a.beta2);
  const auto inverse_root = constant(a.inverse_root);
  const auto epsilon = constant(a.epsilon);
  const auto step_size = constant(a.step_size);
  for_each_vector<T>(count, [=](auto load, auto store) HWY_ATTR {
    auto p = load(parameter);
    const auto g = hn::MulAdd(p, l2, hn::Mul(load(gradient), scale));
    const auto m = hn::MulAdd(beta1, load(exp_avg), hn::Mul(rest1, g));
    const auto v = hn::MulAdd(beta2, load(exp_avg_sq), hn::Mul(hn::Mul(rest2, g), g));
    const auto denominator = hn::MulAdd(hn::Sqrt(v), inverse_root, epsilon);
    p = hn::NegMulAdd(step_size, hn::Div(m, denominator), hn::Mul(p, keep));
    store(m, exp_avg);
    store(v, exp_avg_sq);
    store(p, parameter);
  });
}

template <class T>
void sgd_run(T* parameter, const T* gradient, T* momentum, std::size_t count, const SgdParams& s) {
  const hn::ScalableTag<T> d;
  const auto constant = [d](double value) HWY_ATTR { return hn::Set(d, static_cast<T>(value)); };
  const auto scale = constant(s.gradient_scale);
  const auto decay = constant(s.weight_decay);
  const auto rate = constant(s.learning_rate);
  const auto inertia = constant(s.momentum);
  const auto fresh = constant(1.0 - s.dampening);
  const auto gradient_of = [=](auto load, auto p) HWY_ATTR {
    return hn::MulAdd(p, decay, hn::Mul(load(gradient), scale));
  };
  if (momentum == nullptr) {
    return for_each_vector<T>(count, [=](auto load, auto store) HWY_ATTR {
      const auto p = load(parameter);
      store(hn::NegMulAdd(rate, gradient_of(load, p), p), parameter);
    });
  }
  const bool first = s.first_step;
  const bool nesterov = s.nesterov;
  for_each_vector<T>(count, [=](auto load, auto store) HWY_ATTR {
    const auto p = load(parameter);
    const auto g = gradient_of(load, p);
    auto buffer = g;
    if (!first) buffer = hn::MulAdd(inertia, load(momentum), hn::Mul(fresh, g));
    store(buffer, momentum);
    const auto direction = nesterov ? hn::MulAdd(inertia, buffer, g) : buffer;
    store(hn::NegMulAdd(rate, direction, p), parameter);
  });
}

template <class T>
void add_squares_run(const T* data, std::size_t count, double* sums) {
  const hn::ScalableTag<double> wide;
  const std::size_t lanes = hn::Lanes(wide);
  const auto add = [&](const T* from, double* to) HWY_ATTR {
    if constexpr (sizeof(T) == 4) {
      const hn::Rebind<float, decltype(wide)> narrow;
      const auto x = hn::PromoteTo(wide, hn::LoadU(narrow, from));
      hn::StoreU(hn::MulAdd(x, x, hn::LoadU(wide, to)), wide, to);
    } else {
      const auto x = hn::LoadU(wide, from);
      hn::StoreU(hn::MulAdd(x, x, hn::LoadU(wide, to)), wide, to);
    }
  };
  constexpr std::size_t kLanes = kSquareLanes;
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; lane += lanes) add(data + i + lane, sums + lane);
  }
  if (i == count) return;
  HWY_ALIGN T rest[kLanes] = {};
  std::memcpy(rest, data + i, (count - i) * sizeof(T));
  for (std::size_t lane = 0; lane < kLanes; lane += lanes) add(rest + lane, sums + lane);
}

template <class T>
bool scale_run(T* data, std::size_t count, double factor, double limit) {
  const hn::ScalableTag<T> d;
  const auto scale = hn::Set(d, static_cast<T>(factor));
  const auto bound = hn::Set(d, static_cast<T>(limit));
  auto bad = hn::Zero(d);  // all ones in a lane that saw something that is not below the bound
  for_each_vector<T>(count, [&](auto load, auto store) HWY_ATTR {
    const auto scaled = hn::Mul(load(data), scale);
    bad = hn::Or(bad, hn::VecFromMask(d, hn::Not(hn::Lt(hn::Abs(scaled), bound))));
    store(scaled, data);
  });
  return !hn::AllFalse(d, hn::MaskFromVec(bad));
}

template <class Visitor>
decltype(auto) with_floating(DType dtype, Visitor&& visitor) {
  WEFT_ASSERT(dtype == DType::f32 || dtype == DType::f64, "optimizer arithmetic is f32 or f64");
  if (dtype == DType::f64) return visitor(double{});
  return visitor(float{});
}

void adam_any(DType dtype, void* parameter, const void* gradient, void* exp_avg, void* exp_avg_sq,
              std::size_t count, const AdamFactors& params) {
  with_floating(dtype, [&](auto zero) {
    using T = decltype(zero);
    adam_run(static_cast<T*>(parameter), static_cast<const T*>(gradient), static_cast<T*>(exp_avg),
             static_cast<T*>(exp_avg_sq), count, params);
  });
}

void sgd_any(DType dtype, void* parameter, const void* gradient, void* momentum, std::size_t count,
             const SgdParams& params) {
  with_floating(dtype, [&](auto zero) {
    using T = decltype(zero);
    sgd_run(static_cast<T*>(parameter), static_cast<const T*>(gradient), static_cast<T*>(momentum),
            count, params);
  });
}

void add_squares_any(DType dtype, const void* data, std::size_t count, double* sums) {
  with_floating(dtype, [&](auto zero) {
    add_squares_run(static_cast<const decltype(zero)*>(data), count, sums);
  });
}

bool scale_any(DType dtype, void* data, std::size_t count, double factor, double limit) {
  return with_floating(dtype, [&](auto zero) {
    return scale_run(static_cast<decltype(zero)*>(data), count, factor, limit);
  });
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {

HWY_EXPORT(adam_any);
HWY_EXPORT(sgd_any);
HWY_EXPORT(add_squares_any);
HWY_EXPORT(scale_any);

namespace lanes {

void adam(DType dtype, void* parameter, const void* gradient, void* exp_avg, void* exp_avg_sq,
          std::size_t count, const AdamFactors& params) {
  HWY_DYNAMIC_DISPATCH(adam_any)
  (dtype, parameter, gradient, exp_avg, exp_avg_sq, count, params);
}

void sgd(DType dtype, void* parameter, const void* gradient, void* momentum, std::size_t count,
         const SgdParams& params) {
  HWY_DYNAMIC_DISPATCH(sgd_any)(dtype, parameter, gradient, momentum, count, params);
}

void add_squares(DType dtype, const void* data, std::size_t count, double* sums) {
  HWY_DYNAMIC_DISPATCH(add_squares_any)(dtype, data, count, sums);
}

bool scale_and_check(DType dtype, void* data, std::size_t count, double factor, double limit) {
  return HWY_DYNAMIC_DISPATCH(scale_any)(dtype, data, count, factor, limit);
}

}  // namespace lanes
}  // namespace weft::kernels
#endif
