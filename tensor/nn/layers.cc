#include "tensor/nn/layers.h"

#include "tensor/autograd/node.h"
#include "tensor/nn/init.h"
#include "tensor/ops/basic.h"

namespace weft::nn {
namespace {

Generator& chosen(Generator* generator) {
  return generator != nullptr ? *generator : tensor::default_generator();
}

void check_positive(std::int64_t size, const char* who, const char* what) {
  if (size <= 0) fail<InvalidArgument>("{}: {} must be positive, not {}", who, what, size);
}

}  // namespace

Linear::Linear(std::int64_t in, std::int64_t out, LinearOptions options, Generator* generator)
    : options_(options) {
  check_positive(in, "Linear", "the number of inputs");
  check_positive(out, "Linear", "the number of outputs");
  const bool in_out = options.layout == ops::WeightLayout::in_out;
  weight_ = constant(in_out ? Shape{in, out} : Shape{out, in}, 0.0);
  if (options.bias) bias_ = constant({out}, 0.0);
  if (options.initialize) {
    kaiming_uniform_(weight_, in, chosen(generator));
    if (options.bias) kaiming_uniform_(bias_, in, chosen(generator));
  }
  register_parameter("weight", weight_);
  register_parameter("bias", bias_);
}

Tensor Linear::compute(const Tensor& x) {
  return ops::linear(x, weight_, bias_, options_.layout, options_.activation);
}

Embedding::Embedding(std::int64_t entries, std::int64_t width, bool initialize,
                     Generator* generator) {
  check_positive(entries, "Embedding", "the number of entries");
  check_positive(width, "Embedding", "the width");
  weight_ = constant({entries, width}, 0.0);
  if (initialize) normal_(weight_, 0.0, 1.0, chosen(generator));
  register_parameter("weight", weight_);
}

Tensor Embedding::compute(const Tensor& indices) { return ops::embedding(weight_, indices); }

LayerNorm::LayerNorm(std::int64_t width, bool bias, double epsilon) : epsilon_(epsilon) {
  check_positive(width, "LayerNorm", "the width");
  if (!(epsilon > 0.0)) fail<InvalidArgument>("LayerNorm: epsilon must be positive");
  weight_ = constant({width}, 1.0);
  if (bias) bias_ = constant({width}, 0.0);
  register_parameter("weight", weight_);
  register_parameter("bias", bias_);
}

Tensor LayerNorm::compute(const Tensor& x) { return ops::layer_norm(x, weight_, bias_, epsilon_); }

Dropout::Dropout(double p) : p_(check_probability(p, "Dropout")) {}

Tensor Dropout::compute(const Tensor& x) {
  if (!is_training() || p_ == 0.0) return x;
  return ops::dropout(x, p_, tensor::default_generator());
}

Tensor Relu::compute(const Tensor& x) { return ops::relu(x); }

void Sequential::append(std::unique_ptr<Layer> layer) {
  if (layer == nullptr) fail<InvalidArgument>("Sequential: a layer is null");
  register_module(std::to_string(layers_.size()), *layer);
  layers_.push_back(std::move(layer));
}

Tensor Sequential::compute(const Tensor& x) {
  Tensor value = x;
  for (const auto& layer : layers_) value = layer->forward(value);
  return value;
}

}  // namespace weft::nn
