#include "kernels/activation.h"
#include "kernels/cuda/activation.h"
#include "kernels/cuda/dropout.h"
#include "kernels/dropout.h"
#include "tensor/autograd/node.h"
#include "tensor/by_device.h"
#include "tensor/ops/dropout_mask.h"
#include "tensor/ops/nn.h"
#include "tensor/ops/nn_checks.h"

namespace weft::tensor::ops {

Tensor gelu(const Tensor& x_any, GeluForm form) {
  require_floating("gelu", x_any);
  const auto kind = form == GeluForm::tanh ? kernels::GeluKind::tanh : kernels::GeluKind::exact;
  const Tensor x = x_any.contiguous();
  const Tensor y = Tensor::empty(x.shape(), {x.dtype(), x.device()});
  WEFT_BY_DEVICE(x.device(), gelu, kind, x.dtype(), elems_of(x), x.data(), y.data());
  if (!autograd::should_record({x})) return y;
  return autograd::record("gelu", y, {x}, [kind, x](const Tensor& grad) {
    const Tensor dy = grad.contiguous();
    const Tensor dx = autograd::empty_gradient(x);
    WEFT_BY_DEVICE(x.device(), gelu_backward, kind, dy.dtype(), elems_of(dy), dy.data(), x.data(),
                   dx.data());
    return std::vector<Tensor>{dx};
  });
}

Tensor dropout(const Tensor& x_any, double p, Generator& generator) {
  require_floating("dropout", x_any);
  if (!(p >= 0.0 && p <= 1.0)) {
    fail<InvalidArgument>("dropout: probability {}; expected a number in [0, 1]", p);
  }
  if (p == 0.0) return x_any;
  const Tensor x = x_any.contiguous();
  const auto mask =
      dropout_mask("dropout", x.device(), p, generator, static_cast<std::uint64_t>(x.numel()));
  const Tensor y = Tensor::empty(x.shape(), {x.dtype(), x.device()});
  WEFT_BY_DEVICE(x.device(), dropout, mask, x.dtype(), elems_of(x), x.data(), y.data());
  if (!autograd::should_record({x})) return y;
  return autograd::record("dropout", y, {x}, [mask, x](const Tensor& grad) {
    const Tensor dy = grad.contiguous();
    const Tensor dx = autograd::empty_gradient(x);
    WEFT_BY_DEVICE(dy.device(), dropout, mask, dy.dtype(), elems_of(dy), dy.data(), dx.data());
    return std::vector<Tensor>{dx};
  });
}

}  // namespace weft::tensor::ops
