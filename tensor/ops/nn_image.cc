#include <limits>

#include "kernels/conv.h"
#include "kernels/pool.h"
#include "tensor/amp/operands.h"
#include "tensor/autograd/node.h"
#include "tensor/ops/nn.h"
#include "tensor/ops/nn_checks.h"

namespace weft::tensor::ops {
namespace {

void require_images(std::string_view operation, const Tensor& x, std::int64_t stride,
                    std::int64_t padding) {
  require_operand(operation, x);
  if (x.dim() != 4) {
    fail<InvalidArgument>("{}: x of shape {}; expected (batch, channels, height, width)", operation,
                          to_string(x.shape()));
  }
  if (stride < 1 || padding < 0) {
    fail<InvalidArgument>("{}: stride {} and padding {}; expected stride >= 1 and padding >= 0",
                          operation, stride, padding);
  }
}

void require_window(std::string_view operation, const Tensor& x, std::int64_t height,
                    std::int64_t width, std::int64_t padding) {
  if (height >= 1 && width >= 1 && x.size(2) + 2 * padding >= height &&
      x.size(3) + 2 * padding >= width) {
    return;
  }
  fail<InvalidArgument>("{}: a window of {} x {} does not fit x of shape {} with padding {}",
                        operation, height, width, to_string(x.shape()), padding);
}

kernels::Conv2d check_conv(const Tensor& x, const Tensor& weight, const Tensor& bias,
                           std::int64_t stride, std::int64_t padding) {
  require_images("conv2d", x, stride, padding);
  require_same_type("conv2d", x, weight);
  if (weight.dim() != 4 || weight.size(1) != x.size(1)) {
    fail<InvalidArgument>(
        "conv2d: weight of shape {} for x of shape {}; expected (out, {}, "
        "height, width)",
        to_string(weight.shape()), to_string(x.shape()), x.size(1));
  }
  require_vector("conv2d", "bias", x, bias, weight.size(0));
  require_window("conv2d", x, weight.size(2), weight.size(3), padding);
  return {x.dtype(),      x.size(0),      x.size(1),      x.size(2), x.size(3),
          weight.size(0), weight.size(2), weight.size(3), stride,    padding};
}

kernels::Pool2d check_pool(std::string_view operation, const Tensor& x, std::int64_t kernel,
                           std::int64_t stride, std::int64_t padding) {
  if (stride == 0) stride = kernel;
  require_images(operation, x, stride, padding);
  require_window(operation, x, kernel, kernel, padding);
  if (2 * padding > kernel) {
    fail<InvalidArgument>("{}: padding {} is more than half of kernel {}", operation, padding,
                          kernel);
  }
  if (x.size(2) * x.size(3) > std::numeric_limits<std::int32_t>::max()) {
    fail<Unsupported>("{}: planes of {} x {} have more than 2^31 - 1 elements", operation,
                      x.size(2), x.size(3));
  }
  return {x.dtype(), x.size(0) * x.size(1), x.size(2), x.size(3), kernel, stride, padding};
}

Tensor empty_pooled(const Tensor& x, const kernels::Pool2d& problem, DType dtype) {
  return Tensor::empty({x.size(0), x.size(1), problem.out_height(), problem.out_width()},
                       {dtype, x.device()});
}

}  // namespace

Tensor conv2d(const Tensor& x_any, const Tensor& weight_any, const Tensor& bias_any,
              std::int64_t stride, std::int64_t padding) {
  if (amp::casts()) {
    return amp::low([=](const Tensor& x, const Tensor& weight,
                        const Tensor& bias) { return conv2d(x, weight, bias, stride, padding); },
                    x_any, weight_any, bias_any);
  }
  const kernels::Conv2d problem = check_conv(x_any, weight_any, bias_any, stride, padding);
  const Tensor x = x_any.contiguous(), weight = weight_any.contiguous();
  const Tensor bias = contiguous_or_undefined(bias_any);
  const Tensor y = Tensor::empty(
      {problem.batch, problem.out_channels, problem.out_height(), problem.out_width()},
      {x.dtype(), x.device()});
  kernels::conv2d(problem, x.data(), weight.data(), data_or_null(bias), y.data());
  if (!autograd::should_record({x, weight, bias})) return y;
  return autograd::record(
      "conv2d", y, {x, weight, bias}, [problem, x, weight, bias](const Tensor& grad) {
        const Tensor dy = grad.contiguous();
        const auto gradient = [](const Tensor& input) {
          return needs_grad(input) ? autograd::empty_gradient(input) : Tensor();
        };
        const auto target = [](const Tensor& t) { return t.defined() ? t.data() : nullptr; };
        const Tensor dx = gradient(x), dweight = gradient(weight), dbias = gradient(bias);
        kernels::conv2d_backward(problem, dy.data(), x.data(), weight.data(), target(dx),
                                 target(dweight), target(dbias));
        return std::vector<Tensor>{dx, dweight, dbias};
      });
}

Tensor max_pool2d(const Tensor& x_any, std::int64_t kernel, std::int64_t stride,
                  std::int64_t padding) {
  const kernels::Pool2d problem = check_pool("max_pool2d", x_any, kernel, stride, padding);
  const Tensor x = x_any.contiguous();
  const Tensor y = empty_pooled(x, problem, x.dtype());
  const Tensor winners = empty_pooled(x, problem, DType::i32);
  kernels::max_pool2d(problem, x.data(), y.data(), winners.data<std::int32_t>());
  if (!autograd::should_record({x})) return y;
  return autograd::record("max_pool2d", y, {x}, [problem, x, winners](const Tensor& grad) {
    const Tensor dy = grad.contiguous();
    const Tensor dx = autograd::empty_gradient(x);
    kernels::max_pool2d_backward(problem, dy.data(), winners.data<std::int32_t>(), dx.data());
    return std::vector<Tensor>{dx};
  });
}

Tensor avg_pool2d(const Tensor& x_any, std::int64_t kernel, std::int64_t stride,
                  std::int64_t padding) {
  const kernels::Pool2d problem = check_pool("avg_pool2d", x_any, kernel, stride, padding);
  const Tensor x = x_any.contiguous();
  const Tensor y = empty_pooled(x, problem, x.dtype());
  kernels::avg_pool2d(problem, x.data(), y.data());
  if (!autograd::should_record({x})) return y;
  return autograd::record("avg_pool2d", y, {x}, [problem, x](const Tensor& grad) {
    const Tensor dy = grad.contiguous();
    const Tensor dx = autograd::empty_gradient(x);
    kernels::avg_pool2d_backward(problem, dy.data(), dx.data());
    return std::vector<Tensor>{dx};
  });
}

}  // namespace weft::tensor::ops
