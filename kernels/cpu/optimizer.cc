#include "kernels/optimizer.h"

#include <cmath>

#include "kernels/base/thread_pool.h"

namespace weft::kernels {
namespace {

constexpr std::int64_t kGrain = 16384;

template <class T>
double get(const void* data, std::int64_t i) {
  if constexpr (sizeof(T) == 2) {
    return static_cast<double>(static_cast<float>(static_cast<const T*>(data)[i]));
  } else {
    return static_cast<double>(static_cast<const T*>(data)[i]);
  }
}
template <class T>
void put(void* data, std::int64_t i, double value) {
  if constexpr (sizeof(T) == 2) {
    static_cast<T*>(data)[i] = T(static_cast<float>(value));
  } else {
    static_cast<T*>(data)[i] = static_cast<T>(value);
  }
}
double get(const void* data, DType dtype, std::int64_t i) {
  return dispatch(dtype, [&]<class T>() { return get<T>(data, i); });
}
void put(void* data, DType dtype, std::int64_t i, double value) {
  dispatch(dtype, [&]<class T>() { put<T>(data, i, value); });
}

}  // namespace

void adam(std::span<const AdamTensor> tensors, const AdamParams& params) {
  const double c1 = 1.0 - std::pow(params.beta1, static_cast<double>(params.step));
  const double c2 = 1.0 - std::pow(params.beta2, static_cast<double>(params.step));
  for (const AdamTensor& t : tensors) {
    parallel_for(t.count.value, kGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        double p = get(t.parameter, t.parameter_type, i);
        double g = get(t.gradient, t.gradient_type, i) * params.gradient_scale;
        if (params.decoupled) {
          p -= params.learning_rate * params.weight_decay * p;
        } else {
          g += params.weight_decay * p;
        }
        const double m =
            params.beta1 * get(t.exp_avg, t.parameter_type, i) + (1.0 - params.beta1) * g;
        const double v =
            params.beta2 * get(t.exp_avg_sq, t.parameter_type, i) + (1.0 - params.beta2) * g * g;
        p -= params.learning_rate * (m / c1) / (std::sqrt(v / c2) + params.epsilon);
        put(t.exp_avg, t.parameter_type, i, m);
        put(t.exp_avg_sq, t.parameter_type, i, v);
        put(t.parameter, t.parameter_type, i, p);
        if (t.low_precision_copy != nullptr) put(t.low_precision_copy, t.copy_type, i, p);
      }
    });
  }
}

void sgd(std::span<const SgdTensor> tensors, const SgdParams& params) {
  for (const SgdTensor& t : tensors) {
    parallel_for(t.count.value, kGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const double p = get(t.parameter, t.parameter_type, i);
        double g = get(t.gradient, t.gradient_type, i) * params.gradient_scale;
        g += params.weight_decay * p;
        if (params.momentum != 0.0) {
          const double buffer = params.first_step
                                    ? g
                                    : params.momentum * get(t.momentum, t.parameter_type, i) +
                                          (1.0 - params.dampening) * g;
          put(t.momentum, t.parameter_type, i, buffer);
          g = params.nesterov ? g + params.momentum * buffer : buffer;
        }
        put(t.parameter, t.parameter_type, i, p - params.learning_rate * g);
      }
    });
  }
}

double squared_norm(std::span<const FlatTensor> tensors) {
  double sum = 0.0;
  for (const FlatTensor& t : tensors) {
    for (std::int64_t i = 0; i < t.count.value; ++i) {
      const double x = get(t.data, t.dtype, i);
      sum += x * x;
    }
  }
  return sum;
}

void scale(std::span<const FlatTensor> tensors, double factor) {
  for (const FlatTensor& t : tensors) {
    for (std::int64_t i = 0; i < t.count.value; ++i) {
      put(t.data, t.dtype, i, get(t.data, t.dtype, i) * factor);
    }
  }
}

bool unscale_and_check(std::span<const FlatTensor> tensors, double scale) {
  const double inverse = 1.0 / scale;
  bool found = false;
  for (const FlatTensor& t : tensors) {
    for (std::int64_t i = 0; i < t.count.value; ++i) {
      const double x = get(t.data, t.dtype, i) * inverse;
      found = found || !std::isfinite(x);
      put(t.data, t.dtype, i, x);
    }
  }
  return found;
}

}  // namespace weft::kernels
