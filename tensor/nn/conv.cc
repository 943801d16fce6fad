#include "tensor/nn/conv.h"

#include "tensor/nn/init.h"

namespace weft::nn {
namespace {

void check_window(const char* who, std::int64_t kernel, std::int64_t stride, std::int64_t padding) {
  if (kernel <= 0 || stride < 0 || padding < 0) {
    fail<InvalidArgument>("{}: kernel {} (positive), stride {} and padding {} (not negative)", who,
                          kernel, stride, padding);
  }
}

}  // namespace

Conv2d::Conv2d(std::int64_t in, std::int64_t out, std::int64_t kernel, Conv2dOptions options,
               Generator* generator)
    : options_(options) {
  check_window("Conv2d", kernel, options.stride, options.padding);
  if (in <= 0 || out <= 0 || options.stride == 0) {
    fail<InvalidArgument>("Conv2d: {} inputs, {} outputs and stride {} must be positive", in, out,
                          options.stride);
  }
  weight_ = constant({out, in, kernel, kernel}, 0.0);
  if (options.bias) bias_ = constant({out}, 0.0);
  auto& source = generator != nullptr ? *generator : tensor::default_generator();
  const auto fan_in = in * kernel * kernel;
  kaiming_uniform_(weight_, fan_in, source);
  if (options.bias) kaiming_uniform_(bias_, fan_in, source);
  register_parameter("weight", weight_);
  register_parameter("bias", bias_);
}

Tensor Conv2d::compute(const Tensor& x) {
  return ops::conv2d(x, weight_, bias_, options_.stride, options_.padding);
}

MaxPool2d::MaxPool2d(std::int64_t kernel, std::int64_t stride, std::int64_t padding)
    : kernel_(kernel), stride_(stride), padding_(padding) {
  check_window("MaxPool2d", kernel, stride, padding);
}

Tensor MaxPool2d::compute(const Tensor& x) {
  return ops::max_pool2d(x, kernel_, stride_, padding_);
}

AvgPool2d::AvgPool2d(std::int64_t kernel, std::int64_t stride, std::int64_t padding)
    : kernel_(kernel), stride_(stride), padding_(padding) {
  check_window("AvgPool2d", kernel, stride, padding);
}

Tensor AvgPool2d::compute(const Tensor& x) {
  return ops::avg_pool2d(x, kernel_, stride_, padding_);
}

}  // namespace weft::nn
