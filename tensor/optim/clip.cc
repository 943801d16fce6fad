#include "tensor/optim/clip.h"

#include <cmath>
#include <vector>

#include "kernels/base/thread_pool.h"
#include "kernels/optimizer.h"

namespace weft::optim {
namespace {

constexpr std::int64_t kGrain = 16384;  // elements: shorter runs are not worth a thread

// Contiguous gradients; a strided one is replaced by its contiguous copy first.
std::vector<Tensor> gradients_of(std::span<const Tensor> parameters) {
  std::vector<Tensor> gradients;
  for (auto parameter : parameters) {
    auto gradient = parameter.grad();
    if (!gradient.defined()) continue;
    if (!gradient.is_contiguous()) {
      gradient = gradient.contiguous();
      parameter.set_grad(gradient);
    }
    gradients.push_back(std::move(gradient));
  }
  return gradients;
}

std::vector<kernels::FlatTensor> flat(const std::vector<Tensor>& gradients) {
  std::vector<kernels::FlatTensor> tensors;
  for (const auto& gradient : gradients) {
    tensors.push_back({gradient.data(), Elems(gradient.numel()), gradient.dtype()});
  }
  return tensors;
}

template <class T>
void clamp(const Tensor& gradient, double bound) {
  auto* values = gradient.data<T>();
  const T high(static_cast<float>(bound)), low(static_cast<float>(-bound));
  parallel_for(gradient.numel(), kGrain, [=](std::int64_t begin, std::int64_t end) {
    for (auto i = begin; i < end; ++i) {
      const auto value = static_cast<double>(static_cast<float>(values[i]));
      if (value > bound) values[i] = high;
      if (value < -bound) values[i] = low;
    }
  });
}

template <>
void clamp<double>(const Tensor& gradient, double bound) {
  auto* values = gradient.data<double>();
  parallel_for(gradient.numel(), kGrain, [=](std::int64_t begin, std::int64_t end) {
    for (auto i = begin; i < end; ++i) {
      if (values[i] > bound) values[i] = bound;
      if (values[i] < -bound) values[i] = -bound;
    }
  });
}

}  // namespace

double grad_norm(std::span<const Tensor> parameters) {
  const auto gradients = gradients_of(parameters);
  return std::sqrt(kernels::squared_norm(flat(gradients)));
}

double clip_grad_norm_(std::span<const Tensor> parameters, double max_norm,
                       bool error_if_nonfinite) {
  constexpr double kEpsilon = 1e-6;  // PyTorch's
  if (!(max_norm >= 0.0)) {
    fail<InvalidArgument>("clip_grad_norm_: max_norm must be at least 0, not {}", max_norm);
  }
  const auto gradients = gradients_of(parameters);
  const auto tensors = flat(gradients);
  const double norm = std::sqrt(kernels::squared_norm(tensors));
  if (error_if_nonfinite && !std::isfinite(norm)) {
    fail<InvalidArgument>(
        "clip_grad_norm_: the norm of the gradients is {}. Lower the learning rate, look for "
        "bad samples, or pass error_if_nonfinite = false",
        norm);
  }
  const double factor = max_norm / (norm + kEpsilon);
  if (!(factor >= 1.0)) kernels::scale(tensors, factor);
  return norm;
}

void clip_grad_value_(std::span<const Tensor> parameters, double clip_value) {
  if (!(clip_value >= 0.0)) {
    fail<InvalidArgument>("clip_grad_value_: clip_value must be at least 0, not {}", clip_value);
  }
  for (const auto& gradient : gradients_of(parameters)) {
    switch (gradient.dtype()) {
      case DType::f64:
        clamp<double>(gradient, clip_value);
        break;
      case DType::f32:
        clamp<float>(gradient, clip_value);
        break;
      case DType::f16:
        clamp<Half>(gradient, clip_value);
        break;
      default:
        clamp<BFloat16>(gradient, clip_value);
    }
  }
}

}  // namespace weft::optim
