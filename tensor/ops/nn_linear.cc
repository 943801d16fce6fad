#include "kernels/activation.h"
#include "kernels/cuda/activation.h"
#include "kernels/cuda/gemm.h"
#include "kernels/gemm.h"
#include "tensor/amp/operands.h"
#include "tensor/autograd/node.h"
#include "tensor/by_device.h"
#include "tensor/ops/nn.h"
#include "tensor/ops/nn_checks.h"

namespace weft::tensor::ops {
namespace {

using kernels::Gemm;
using kernels::Transpose;

struct LinearShape {
  std::int64_t rows = 0, in = 0, out = 0;
  WeightLayout layout = WeightLayout::out_in;
  Activation activation = Activation::none;
};

LinearShape check(const Tensor& x, const Tensor& weight, const Tensor& bias, WeightLayout layout,
                  Activation activation) {
  require_floating("linear", x);
  require_same_type("linear", x, weight);
  const bool out_in = layout == WeightLayout::out_in;
  if (weight.dim() != 2 || x.dim() < 1 || x.size(-1) != weight.size(out_in ? 1 : 0)) {
    fail<InvalidArgument>(
        "linear: x of shape {} with a weight of shape {}; expected x (..., in) "
        "and a weight {}",
        to_string(x.shape()), to_string(weight.shape()), out_in ? "(out, in)" : "(in, out)");
  }
  LinearShape shape{0, x.size(-1), weight.size(out_in ? 0 : 1), layout, activation};
  require_vector("linear", "bias", x, bias, shape.out);
  shape.rows = 1;
  for (std::int64_t d = 0; d + 1 < x.dim(); ++d) shape.rows *= x.size(d);
  return shape;
}

// y = x W' (out_in) or x W (in_out), with what follows fused where it can be. What backward needs
// of the activation is left in `saved`.
Tensor forward(const LinearShape& s, const Tensor& x, const Tensor& weight, const Tensor& bias,
               bool recording, Tensor& saved) {
  Shape shape = x.shape();
  shape.back() = s.out;
  Tensor y = Tensor::empty(shape, {x.dtype(), x.device()});
  const bool out_in = s.layout == WeightLayout::out_in;
  Gemm g;
  g.dtype = x.dtype();
  g.m = s.rows, g.n = s.out, g.k = s.in;
  g.a = x.data(), g.lda = s.in;
  g.b = weight.data(), g.ldb = out_in ? s.in : s.out;
  g.transpose_b = out_in ? Transpose::yes : Transpose::no;
  g.c = y.data(), g.ldc = s.out;
  const bool gelu = s.activation == Activation::gelu;
  if (gelu && bias.defined()) {
    if (recording) saved = Tensor::empty(shape, {x.dtype(), x.device()});
    WEFT_BY_DEVICE(x.device(), gemm, g, kernels::Epilogue::bias_gelu, bias.data(),
                   recording ? saved.data() : nullptr);
    return y;
  }
  WEFT_BY_DEVICE(x.device(), gemm, g,
                 bias.defined() ? kernels::Epilogue::bias : kernels::Epilogue::none,
                 data_or_null(bias), nullptr);
  if (gelu) {
    saved = y;
    y = recording ? Tensor::empty(shape, {x.dtype(), x.device()}) : y;
    WEFT_BY_DEVICE(y.device(), gelu, kernels::GeluKind::tanh, y.dtype(), elems_of(y), saved.data(),
                   y.data());
  } else if (s.activation == Activation::relu) {
    WEFT_BY_DEVICE(y.device(), relu, y.dtype(), elems_of(y), y.data(), y.data());
    saved = y.detach();
  }
  return y;
}

// The gradient of what stands before the activation, and of the bias, in one pass.
Tensor before_activation(const LinearShape& s, const Tensor& dy, const Tensor& saved,
                         const Tensor& dbias) {
  kernels::BiasActivationBackward p;
  p.dtype = dy.dtype();
  p.rows = s.rows, p.columns = s.out;
  p.dy = dy.data();
  p.dbias = dbias.defined() ? dbias.data() : nullptr;
  if (s.activation == Activation::none) {
    if (dbias.defined()) WEFT_BY_DEVICE(dy.device(), bias_activation_backward, p);
    return dy;
  }
  Tensor g = Tensor::empty(dy.shape(), {dy.dtype(), dy.device()});
  p.activation = s.activation == Activation::gelu ? kernels::EpilogueActivation::gelu_tanh
                                                  : kernels::EpilogueActivation::relu;
  p.saved = saved.data();
  p.dx = g.data();
  WEFT_BY_DEVICE(dy.device(), bias_activation_backward, p);
  return g;
}

void gradient_of_x(const LinearShape& s, const Tensor& g, const Tensor& weight, const Tensor& dx) {
  const bool out_in = s.layout == WeightLayout::out_in;
  Gemm p;
  p.dtype = g.dtype();
  p.m = s.rows, p.n = s.in, p.k = s.out;
  p.a = g.data(), p.lda = s.out;
  p.b = weight.data(), p.ldb = out_in ? s.in : s.out;
  p.transpose_b = out_in ? Transpose::no : Transpose::yes;
  p.c = dx.data(), p.ldc = s.in;
  WEFT_BY_DEVICE(g.device(), gemm, p, kernels::Epilogue::none, nullptr, nullptr);
}

// With `dbias`, the sums of g that the bias gets come from the same reading of g: on CUDA, which
// alone has a product that leaves them.
void gradient_of_weight(const LinearShape& s, const Tensor& g, const Tensor& x, const Tensor& dw,
                        const Tensor& dbias = {}) {
  const bool out_in = s.layout == WeightLayout::out_in;
  Gemm p;
  p.dtype = g.dtype();
  p.m = out_in ? s.out : s.in, p.n = out_in ? s.in : s.out, p.k = s.rows;
  p.a = out_in ? g.data() : x.data(), p.lda = p.m;
  p.transpose_a = Transpose::yes;
  p.b = out_in ? x.data() : g.data(), p.ldb = p.n;
  p.c = dw.data(), p.ldc = p.n;
  if (!dbias.defined()) {
    WEFT_BY_DEVICE(g.device(), gemm, p, kernels::Epilogue::none, nullptr, nullptr);
    return;
  }
  using kernels::cuda::BiasGradient;
  const DeviceGuard guard(g.device());
  kernels::cuda::gemm_backward(
      p, {nullptr, out_in ? BiasGradient::of_a : BiasGradient::of_b, dbias.data()},
      Stream::current(g.device()).handle());
}

}  // namespace

Tensor linear(const Tensor& x_any, const Tensor& weight_any, const Tensor& bias_any,
              WeightLayout layout, Activation activation) {
  if (amp::casts()) {
    return amp::low([=](const Tensor& x, const Tensor& weight,
                        const Tensor& bias) { return linear(x, weight, bias, layout, activation); },
                    x_any, weight_any, bias_any);
  }
  const LinearShape s = check(x_any, weight_any, bias_any, layout, activation);
  const Tensor x = x_any.contiguous(), weight = weight_any.contiguous();
  const Tensor bias = contiguous_or_undefined(bias_any);
  const bool recording = autograd::should_record({x, weight, bias});
  Tensor saved;
  Tensor y = forward(s, x, weight, bias, recording, saved);
  if (!recording) return y;
  const bool for_x = needs_grad(x), for_weight = needs_grad(weight), for_bias = needs_grad(bias);
  return autograd::record(
      "linear", y, {x, weight, bias},
      [s, x, weight, bias, saved, for_x, for_weight, for_bias](const Tensor& grad) {
        Tensor dx, dweight, dbias;
        if (for_bias) dbias = autograd::empty_gradient(bias);
        const bool with_product = for_bias && for_weight && s.activation == Activation::none &&
                                  grad.device().type == DeviceType::cuda;
        const Tensor g =
            before_activation(s, grad.contiguous(), saved, with_product ? Tensor() : dbias);
        if (for_weight) {
          dweight = autograd::empty_gradient(weight);
          gradient_of_weight(s, g, x, dweight, with_product ? dbias : Tensor());
        }
        if (for_x) {
          dx = autograd::empty_gradient(x);
          gradient_of_x(s, g, weight, dx);
        }
        return std::vector<Tensor>{dx, dweight, dbias};
      });
}

}  // namespace weft::tensor::ops
