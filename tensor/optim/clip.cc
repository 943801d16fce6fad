#include "tensor/optim/clip.h"

#include <cmath>
#include <vector>

#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/multi_tensor.h"
#include "kernels/elementwise.h"
#include "kernels/optimizer.h"
#include "tensor/autograd/node.h"
#include "tensor/by_device.h"
#include "tensor/part.h"

namespace weft::optim {
namespace {

using Flat = std::vector<kernels::FlatTensor>;

// Contiguous gradients; a strided one is replaced by its contiguous copy first.
struct Gradients {
  std::vector<Tensor> tensors;
  Device device;
};

Gradients gradients_of(std::span<const Tensor> parameters, std::string_view operation) {
  Gradients found;
  for (auto parameter : parameters) {
    if (tensor::part_of(parameter)) {
      fail<InvalidArgument>(
          "{}: the gradient of a parameter of shape {} is spread over the ranks, and its norm is "
          "that of all of them: use Fabric::clip_gradients() or parallel::Zero's",
          operation, tensor::to_string(parameter.shape()));
    }
    auto gradient = parameter.grad();
    if (!gradient.defined()) continue;
    if (!gradient.is_contiguous()) {
      gradient = gradient.contiguous();
      parameter.set_grad(gradient);
    }
    if (found.tensors.empty()) found.device = gradient.device();
    if (gradient.device() != found.device) {
      fail<InvalidArgument>(
          "{}: gradients lie on {} and on {}; clip those of each device by itself", operation,
          tensor::to_string(found.device), tensor::to_string(gradient.device()));
    }
    found.tensors.push_back(std::move(gradient));
  }
  return found;
}

Flat flat(const Gradients& gradients) {
  Flat tensors;
  for (const auto& gradient : gradients.tensors) {
    tensors.push_back({gradient.data(), Elems(gradient.numel()), gradient.dtype()});
  }
  return tensors;
}

Tensor workspace_for(const Flat& tensors, Device device) {
  const auto bytes = kernels::cuda::norm_workspace(tensors);
  return Tensor::empty({bytes.value}, {DType::u8, device});
}

Tensor norm_of(const Gradients& gradients) {
  const auto tensors = flat(gradients);
  if (gradients.device.type == DeviceType::cpu) {
    return Tensor::scalar(std::sqrt(kernels::squared_norm(tensors)), {DType::f64});
  }
  const auto workspace = workspace_for(tensors, gradients.device);
  const auto norm = Tensor::empty({}, {DType::f64, gradients.device});
  const tensor::DeviceGuard guard(gradients.device);
  const auto stream = tensor::Stream::current(gradients.device);
  kernels::cuda::squared_norm(tensors, workspace.data(), norm.data<double>(), stream.handle());
  kernels::cuda::unary(kernels::UnaryOp::sqrt, DType::f64, Elems(1), norm.data(), norm.data(), 0.0,
                       stream.handle());
  return norm;
}

void require_norm(double max_norm) {
  if (max_norm >= 0.0) return;
  fail<InvalidArgument>("clip_grad_norm_: max_norm must be at least 0, not {}", max_norm);
}

void require_finite(double norm) {
  if (std::isfinite(norm)) return;
  fail<InvalidArgument>(
      "clip_grad_norm_: the norm of the gradients is {}. Lower the learning rate, look for "
      "bad samples, or pass error_if_nonfinite = false",
      norm);
}

Tensor clip(const Gradients& gradients, double max_norm) {
  constexpr double kEpsilon = 1e-6;  // PyTorch's
  const auto tensors = flat(gradients);
  if (gradients.device.type == DeviceType::cpu) {
    const auto norm = norm_of(gradients);
    const double factor = max_norm / (norm.item() + kEpsilon);
    if (!(factor >= 1.0)) kernels::scale(tensors, factor);
    return norm;
  }
  const auto workspace = workspace_for(tensors, gradients.device);
  const auto norm = Tensor::empty({}, {DType::f64, gradients.device});
  const tensor::DeviceGuard guard(gradients.device);
  kernels::cuda::clip_norm(tensors, max_norm, workspace.data(), norm.data<double>(),
                           tensor::Stream::current(gradients.device).handle());
  return norm;
}

// gradient = op(gradient, bound), the bound repeated.
void bound(kernels::BinaryOp op, const Tensor& gradient, double value) {
  const auto limit = Tensor::full({}, value, {gradient.dtype(), gradient.device()});
  const tensor::Strides once(gradient.shape().size(), 0);
  WEFT_BY_DEVICE(gradient.device(), binary, op, gradient.dtype(), gradient.shape(),
                 {gradient.data(), gradient.strides()}, {gradient.data(), gradient.strides()},
                 {limit.data(), once}, 0.0);
}

}  // namespace

Tensor grad_norm_tensor(std::span<const Tensor> parameters) {
  const NoGrad no_grad;
  return norm_of(gradients_of(parameters, "grad_norm"));
}

double grad_norm(std::span<const Tensor> parameters) { return grad_norm_tensor(parameters).item(); }

Tensor clip_grad_norm_tensor_(std::span<const Tensor> parameters, double max_norm) {
  const NoGrad no_grad;
  require_norm(max_norm);
  return clip(gradients_of(parameters, "clip_grad_norm_"), max_norm);
}

double clip_grad_norm_(std::span<const Tensor> parameters, double max_norm,
                       bool error_if_nonfinite) {
  const NoGrad no_grad;
  require_norm(max_norm);
  const auto gradients = gradients_of(parameters, "clip_grad_norm_");
  if (error_if_nonfinite) require_finite(norm_of(gradients).item());
  return clip(gradients, max_norm).item();
}

void clip_grad_value_(std::span<const Tensor> parameters, double clip_value) {
  if (!(clip_value >= 0.0)) {
    fail<InvalidArgument>("clip_grad_value_: clip_value must be at least 0, not {}", clip_value);
  }
  const NoGrad no_grad;
  for (const auto& parameter : parameters) {
    for (const auto& gradient : gradients_of({&parameter, 1}, "clip_grad_value_").tensors) {
      bound(kernels::BinaryOp::min, gradient, clip_value);
      bound(kernels::BinaryOp::max, gradient, -clip_value);
    }
  }
}

}  // namespace weft::optim
