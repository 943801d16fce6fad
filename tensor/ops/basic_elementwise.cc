// Element-wise operators: broadcasting around kernels/elementwise.h, and their backward forms.
#include <cmath>

#include "kernels/elementwise.h"
#include "tensor/amp/operands.h"
#include "tensor/autograd/node.h"
#include "tensor/ops/basic.h"
#include "tensor/ops/basic_checks.h"
#include "tensor/ops/sum_to.h"

namespace weft::tensor::ops {
namespace {

using autograd::record;
using autograd::should_record;
using kernels::BinaryOp;
using kernels::UnaryOp;

TensorOptions options_of(const Tensor& a) { return {a.dtype(), a.device()}; }

Tensor apply(BinaryOp op, std::string_view name, const Tensor& a, const Tensor& b,
             double scalar = 0.0) {
  require_same_type(name, a, b);
  if (a.shape() == b.shape() && a.is_contiguous() && b.is_contiguous()) {
    auto out = Tensor::empty(a.shape(), options_of(a));
    kernels::binary(op, a.dtype(), Elems(a.numel()), out.data(), a.data(), b.data(), scalar);
    return out;
  }
  auto out = Tensor::empty(broadcast_shapes(a.shape(), b.shape(), name), options_of(a));
  if (out.numel() == 0) return out;
  const auto a_strides = broadcast_strides(a.shape(), a.strides(), out.shape());
  const auto b_strides = broadcast_strides(b.shape(), b.strides(), out.shape());
  kernels::binary(op, a.dtype(), out.shape(), {out.data(), out.strides()}, {a.data(), a_strides},
                  {b.data(), b_strides}, scalar);
  return out;
}

Tensor apply(UnaryOp op, const Tensor& a, double scalar = 0.0) {
  auto out = Tensor::empty(a.shape(), options_of(a));
  if (out.numel() == 0) return out;
  if (a.is_contiguous()) {
    kernels::unary(op, a.dtype(), Elems(a.numel()), out.data(), a.data(), scalar);
  } else {
    kernels::unary(op, a.dtype(), a.shape(), {out.data(), out.strides()}, {a.data(), a.strides()},
                   scalar);
  }
  return out;
}

enum class Keeps : bool { input, output };

// A floating-point function whose gradient is `backward` of the one that arrives and of what was
// kept.
Tensor function(std::string_view name, UnaryOp forward, const Tensor& a, Keeps keeps,
                BinaryOp backward, double scalar = 0.0) {
  require_floating(name, a);
  auto out = apply(forward, a, scalar);
  if (!should_record({a})) return out;
  auto kept = keeps == Keeps::input ? a.detach() : out.detach();
  return record(name, std::move(out), {a},
                [=, kept = std::move(kept)](const Tensor& grad) -> std::vector<Tensor> {
                  return {apply(backward, name, grad, kept, scalar)};
                });
}

void require_whole(std::string_view name, const Tensor& a, double scalar) {
  if (is_floating(a.dtype()) || scalar == std::trunc(scalar)) return;
  fail<InvalidArgument>("{}: {} with a tensor of {}; expected a whole number", name, scalar,
                        name_of(a.dtype()));
}

}  // namespace

Tensor add(const Tensor& a, const Tensor& b) {
  if (amp::mixes(a, b)) {
    return amp::promoted([](const Tensor& x, const Tensor& y) { return add(x, y); }, a, b);
  }
  auto out = apply(BinaryOp::add, "add", a, b);
  if (!should_record({a, b})) return out;
  return record("add", std::move(out), {a, b},
                [as = a.shape(), bs = b.shape(), to_a = a.requires_grad(),
                 to_b = b.requires_grad()](const Tensor& grad) -> std::vector<Tensor> {
                  return {to_a ? sum_to(grad, as) : Tensor(), to_b ? sum_to(grad, bs) : Tensor()};
                });
}

Tensor sub(const Tensor& a, const Tensor& b) {
  if (amp::mixes(a, b)) {
    return amp::promoted([](const Tensor& x, const Tensor& y) { return sub(x, y); }, a, b);
  }
  auto out = apply(BinaryOp::sub, "sub", a, b);
  if (!should_record({a, b})) return out;
  return record(
      "sub", std::move(out), {a, b},
      [as = a.shape(), bs = b.shape(), to_a = a.requires_grad(),
       to_b = b.requires_grad()](const Tensor& grad) -> std::vector<Tensor> {
        return {to_a ? sum_to(grad, as) : Tensor(), to_b ? neg(sum_to(grad, bs)) : Tensor()};
      });
}

Tensor mul(const Tensor& a, const Tensor& b) {
  if (amp::mixes(a, b)) {
    return amp::promoted([](const Tensor& x, const Tensor& y) { return mul(x, y); }, a, b);
  }
  auto out = apply(BinaryOp::mul, "mul", a, b);
  if (!should_record({a, b})) return out;
  return record(
      "mul", std::move(out), {a, b},
      [as = a.shape(), bs = b.shape(), by_a = a.requires_grad() ? b.detach() : Tensor(),
       by_b =
           b.requires_grad() ? a.detach() : Tensor()](const Tensor& grad) -> std::vector<Tensor> {
        return {by_a.defined() ? sum_to(apply(BinaryOp::mul, "mul", grad, by_a), as) : Tensor(),
                by_b.defined() ? sum_to(apply(BinaryOp::mul, "mul", grad, by_b), bs) : Tensor()};
      });
}

Tensor div(const Tensor& a, const Tensor& b) {
  if (amp::mixes(a, b)) {
    return amp::promoted([](const Tensor& x, const Tensor& y) { return div(x, y); }, a, b);
  }
  require_floating("div", a);
  auto out = apply(BinaryOp::div, "div", a, b);
  if (!should_record({a, b})) return out;
  const bool to_a = a.requires_grad();
  const bool to_b = b.requires_grad();
  auto quotient = to_b ? out.detach() : Tensor();
  return record("div", std::move(out), {a, b},
                [as = a.shape(), below = b.detach(), quotient = std::move(quotient), to_a,
                 to_b](const Tensor& grad) -> std::vector<Tensor> {
                  const auto part = apply(BinaryOp::div, "div", grad, below);
                  auto to_below =  // d(a / b) / db = -(a / b) / b
                      to_b ? neg(sum_to(apply(BinaryOp::mul, "div", part, quotient), below.shape()))
                           : Tensor();
                  return {to_a ? sum_to(part, as) : Tensor(), std::move(to_below)};
                });
}

Tensor add(const Tensor& a, double b) {
  require_some("add", a);
  require_whole("add", a, b);
  auto out = apply(UnaryOp::add_scalar, a, b);
  return record("add", std::move(out), {a},
                [](const Tensor& grad) -> std::vector<Tensor> { return {grad}; });
}

Tensor mul(const Tensor& a, double b) {
  require_some("mul", a);
  require_whole("mul", a, b);
  auto out = apply(UnaryOp::mul_scalar, a, b);
  return record("mul", std::move(out), {a}, [b](const Tensor& grad) -> std::vector<Tensor> {
    return {apply(UnaryOp::mul_scalar, grad, b)};
  });
}

Tensor neg(const Tensor& a) {
  require_some("neg", a);
  return record("neg", apply(UnaryOp::neg, a), {a}, [](const Tensor& grad) -> std::vector<Tensor> {
    return {apply(UnaryOp::neg, grad)};
  });
}

Tensor exp(const Tensor& a) {
  if (amp::casts()) return amp::wide([](const Tensor& x) { return exp(x); }, a);
  return function("exp", UnaryOp::exp, a, Keeps::output, BinaryOp::mul);
}
Tensor log(const Tensor& a) {
  if (amp::casts()) return amp::wide([](const Tensor& x) { return log(x); }, a);
  return function("log", UnaryOp::log, a, Keeps::input, BinaryOp::div);
}
Tensor sqrt(const Tensor& a) {
  return function("sqrt", UnaryOp::sqrt, a, Keeps::output, BinaryOp::sqrt_backward);
}
Tensor pow(const Tensor& a, double exponent) {
  if (amp::casts()) return amp::wide([=](const Tensor& x) { return pow(x, exponent); }, a);
  return function("pow", UnaryOp::pow, a, Keeps::input, BinaryOp::pow_backward, exponent);
}
Tensor tanh(const Tensor& a) {
  return function("tanh", UnaryOp::tanh, a, Keeps::output, BinaryOp::tanh_backward);
}
Tensor sigmoid(const Tensor& a) {
  return function("sigmoid", UnaryOp::sigmoid, a, Keeps::output, BinaryOp::sigmoid_backward);
}
Tensor relu(const Tensor& a) {
  return function("relu", UnaryOp::relu, a, Keeps::output, BinaryOp::relu_backward);
}

}  // namespace weft::tensor::ops
