// The arithmetic of optimizer steps on one element, for the CPU's vectors to agree with and for
// CUDA kernels to run: bit for bit the same where the CPU has fused multiply-add (AVX2 and newer).
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/base/half.h"
#include "kernels/optimizer.h"

namespace weft::kernels {

// base to the power of exponent >= 0 by repeated squaring: no libm, so that host and device agree
// to the bit. The relative error grows to about exponent * 2^-53.
WEFT_HD inline double integer_power(double base, std::int64_t exponent) {
  double result = 1.0;
  for (; exponent > 0; exponent >>= 1) {
    if ((exponent & 1) != 0) result *= base;
    base *= base;
  }
  return result;
}

// What a step's parameters come to, worked out once a step:
//   g = gradient * gradient_scale + l2 * p;  m += ..., v += ... with beta1, beta2;
//   p = keep * p - step_size * m / (sqrt(v) * inverse_root + epsilon)
// (Kingma, Ba, "Adam", 2015; Loshchilov, Hutter, "Decoupled weight decay regularization", 2019).
struct AdamFactors {
  double gradient_scale, l2, keep, beta1, beta2, inverse_root, epsilon, step_size;
};

WEFT_HD inline AdamFactors adam_factors(const AdamParams& params) {
  AdamFactors factors;
  factors.gradient_scale = params.gradient_scale;
  factors.l2 = params.decoupled ? 0.0 : params.weight_decay;
  factors.keep = params.decoupled ? std::fma(-params.learning_rate, params.weight_decay, 1.0) : 1.0;
  factors.beta1 = params.beta1;
  factors.beta2 = params.beta2;
  factors.inverse_root = 1.0 / std::sqrt(1.0 - integer_power(params.beta2, params.step));
  factors.epsilon = params.epsilon;
  factors.step_size = params.learning_rate / (1.0 - integer_power(params.beta1, params.step));
  return factors;
}

// T, here and below: float or double, the type of parameter and state.
template <class T>
struct AdamStep {
  T gradient_scale, l2, keep, beta1, rest1, beta2, rest2, inverse_root, epsilon, step_size;

  WEFT_HD explicit AdamStep(const AdamFactors& f)
      : gradient_scale(static_cast<T>(f.gradient_scale)),
        l2(static_cast<T>(f.l2)),
        keep(static_cast<T>(f.keep)),
        beta1(static_cast<T>(f.beta1)),
        rest1(static_cast<T>(1.0 - f.beta1)),
        beta2(static_cast<T>(f.beta2)),
        rest2(static_cast<T>(1.0 - f.beta2)),
        inverse_root(static_cast<T>(f.inverse_root)),
        epsilon(static_cast<T>(f.epsilon)),
        step_size(static_cast<T>(f.step_size)) {}

  WEFT_HD void operator()(T& p, T gradient, T& m, T& v) const {
    const T g = std::fma(p, l2, gradient * gradient_scale);
    m = std::fma(beta1, m, rest1 * g);
    v = std::fma(beta2, v, rest2 * g * g);
    const T denominator = std::fma(std::sqrt(v), inverse_root, epsilon);
    p = std::fma(-step_size, m / denominator, p * keep);
  }
};

template <class T>
struct SgdStep {
  T gradient_scale, decay, rate, inertia, fresh;
  bool nesterov, first_step;

  WEFT_HD explicit SgdStep(const SgdParams& s)
      : gradient_scale(static_cast<T>(s.gradient_scale)),
        decay(static_cast<T>(s.weight_decay)),
        rate(static_cast<T>(s.learning_rate)),
        inertia(static_cast<T>(s.momentum)),
        fresh(static_cast<T>(1.0 - s.dampening)),
        nesterov(s.nesterov),
        first_step(s.first_step) {}

  WEFT_HD void operator()(T& p, T gradient) const { p = std::fma(-rate, decayed(p, gradient), p); }
  WEFT_HD void operator()(T& p, T gradient, T& momentum) const {
    const T g = decayed(p, gradient);
    momentum = first_step ? g : std::fma(inertia, momentum, fresh * g);
    const T direction = nesterov ? std::fma(inertia, momentum, g) : momentum;
    p = std::fma(-rate, direction, p);
  }

 private:
  WEFT_HD T decayed(T p, T gradient) const { return std::fma(p, decay, gradient * gradient_scale); }
};

}  // namespace weft::kernels
