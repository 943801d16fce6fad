#include "kernels/compute_type.h"
#include "kernels/layer_norm.h"
#include "kernels/softmax.h"
#include "tensor/amp/operands.h"
#include "tensor/autograd/node.h"
#include "tensor/ops/nn.h"
#include "tensor/ops/nn_checks.h"

namespace weft::tensor::ops {
namespace {

Tensor gradient_if_needed(const Tensor& input) {
  return needs_grad(input) ? autograd::empty_gradient(input) : Tensor();
}

void* target_or_null(const Tensor& gradient) {
  return gradient.defined() ? gradient.data() : nullptr;
}

Tensor softmax_over_last(const Tensor& x, kernels::SoftmaxKind kind) {
  const std::int64_t columns = x.size(-1), rows = columns == 0 ? 0 : x.numel() / columns;
  Tensor y = Tensor::empty(x.shape(), {x.dtype(), x.device()});
  kernels::softmax(kind, x.dtype(), rows, columns, x.data(), y.data());
  if (!autograd::should_record({x})) return y;
  return autograd::record(kind == kernels::SoftmaxKind::log ? "log_softmax" : "softmax", y, {x},
                          [kind, rows, columns, x, kept = y.detach()](const Tensor& grad) {
                            const Tensor dy = grad.contiguous();
                            const Tensor dx = autograd::empty_gradient(x);
                            kernels::softmax_backward(kind, dy.dtype(), rows, columns, dy.data(),
                                                      kept.data(), dx.data());
                            return std::vector<Tensor>{dx};
                          });
}

Tensor softmax_over(const Tensor& x, std::int64_t dim, kernels::SoftmaxKind kind,
                    std::string_view operation) {
  if (amp::casts()) {
    return amp::wide([=](const Tensor& w) { return softmax_over(w, dim, kind, operation); }, x);
  }
  require_operand(operation, x);
  const std::int64_t dims = x.dim();
  if (dims == 0 || dim < -dims || dim >= dims) {
    fail<InvalidArgument>("{}: dimension {} of a tensor of shape {}", operation, dim,
                          to_string(x.shape()));
  }
  const std::int64_t last = dims - 1, d = dim < 0 ? dim + dims : dim;
  if (d == last) return softmax_over_last(x.contiguous(), kind);
  return softmax_over_last(x.transpose(d, last).contiguous(), kind).transpose(d, last);
}

}  // namespace

Tensor layer_norm(const Tensor& x_any, const Tensor& weight_any, const Tensor& bias_any,
                  double epsilon) {
  if (amp::casts()) {
    return amp::wide([=](const Tensor& x, const Tensor& weight,
                         const Tensor& bias) { return layer_norm(x, weight, bias, epsilon); },
                     x_any, weight_any, bias_any);
  }
  require_operand("layer_norm", x_any);
  if (x_any.dim() < 1 || x_any.size(-1) == 0) {
    fail<InvalidArgument>("layer_norm: x of shape {}; expected (..., columns) with columns > 0",
                          to_string(x_any.shape()));
  }
  if (!(epsilon >= 0.0)) {
    fail<InvalidArgument>("layer_norm: epsilon {}; expected a number >= 0", epsilon);
  }
  const std::int64_t columns = x_any.size(-1), rows = x_any.numel() / columns;
  require_vector("layer_norm", "weight", x_any, weight_any, columns);
  require_vector("layer_norm", "bias", x_any, bias_any, columns);
  const Tensor x = x_any.contiguous();
  const Tensor weight = contiguous_or_undefined(weight_any);
  const Tensor bias = contiguous_or_undefined(bias_any);
  const TensorOptions statistics{kernels::compute_type(x.dtype()), x.device()};
  const Tensor y = Tensor::empty(x.shape(), {x.dtype(), x.device()});
  const Tensor mean = Tensor::empty({rows}, statistics);
  const Tensor rstd = Tensor::empty({rows}, statistics);
  kernels::layer_norm({x.dtype(), rows, columns, epsilon, x.data(), data_or_null(weight),
                       data_or_null(bias), y.data(), mean.data(), rstd.data()});
  if (!autograd::should_record({x, weight, bias})) return y;
  return autograd::record(
      "layer_norm", y, {x, weight, bias},
      [rows, columns, x, weight, bias, mean, rstd](const Tensor& grad) {
        const Tensor dy = grad.contiguous();
        const Tensor dx = gradient_if_needed(x);
        const Tensor dweight = gradient_if_needed(weight);
        const Tensor dbias = gradient_if_needed(bias);
        kernels::layer_norm_backward(
            {dy.dtype(), rows, columns, dy.data(), x.data(), data_or_null(weight), mean.data(),
             rstd.data(), target_or_null(dx), target_or_null(dweight), target_or_null(dbias)});
        return std::vector<Tensor>{dx, dweight, dbias};
      });
}

Tensor softmax(const Tensor& x, std::int64_t dim) {
  return softmax_over(x, dim, kernels::SoftmaxKind::plain, "softmax");
}

Tensor log_softmax(const Tensor& x, std::int64_t dim) {
  return softmax_over(x, dim, kernels::SoftmaxKind::log, "log_softmax");
}

}  // namespace weft::tensor::ops
