// The usual layers, over tensor/ops/nn.h. Sizes that are not positive and probabilities outside
// [0, 1) are InvalidArgument. `generator` draws the initial values; none means this thread's
// default.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "tensor/nn/module.h"
#include "tensor/ops/nn.h"

namespace weft::nn {

namespace ops = tensor::ops;
using tensor::Generator;

struct LinearOptions {
  bool bias = true;
  ops::WeightLayout layout = ops::WeightLayout::out_in;
  ops::Activation activation = ops::Activation::none;  // fused with the product
  bool initialize = true;                              // false: zeros, the owner fills them
};

class Linear : public Layer {  // (..., in) -> (..., out)
 public:
  Linear(std::int64_t in, std::int64_t out, LinearOptions options = {},
         Generator* generator = nullptr);
  Tensor& weight() { return weight_; }
  Tensor& bias() { return bias_; }  // undefined without one

 protected:
  Tensor compute(const Tensor& x) override;

 private:
  LinearOptions options_;
  Tensor weight_, bias_;
};

class Embedding : public Layer {  // (...) integers -> (..., width); starts normal(0, 1)
 public:
  Embedding(std::int64_t entries, std::int64_t width, bool initialize = true,
            Generator* generator = nullptr);
  Tensor& weight() { return weight_; }

 protected:
  Tensor compute(const Tensor& indices) override;

 private:
  Tensor weight_;
};

class LayerNorm : public Layer {  // over the last dimension
 public:
  explicit LayerNorm(std::int64_t width, bool bias = true, double epsilon = 1e-5);

 protected:
  Tensor compute(const Tensor& x) override;

 private:
  double epsilon_;
  Tensor weight_, bias_;
};

class Dropout : public Layer {  // itself in eval mode or with p == 0
 public:
  explicit Dropout(double p);
  double p() const { return p_; }

 protected:
  Tensor compute(const Tensor& x) override;

 private:
  double p_;
};

class Gelu : public Layer {
 public:
  explicit Gelu(ops::GeluForm form = ops::GeluForm::tanh) : form_(form) {}

 protected:
  Tensor compute(const Tensor& x) override { return ops::gelu(x, form_); }

 private:
  ops::GeluForm form_;
};

class Relu : public Layer {
 protected:
  Tensor compute(const Tensor& x) override;
};

class Flatten : public Layer {  // (N, ...) -> (N, product of the rest)
 protected:
  Tensor compute(const Tensor& x) override { return x.flatten(1, -1); }
};

// Parts are named "0", "1", ... in the order they are added.
class Sequential : public Layer {
 public:
  Sequential() = default;
  template <class L, class... Args>
  L& add(Args&&... args) {
    auto layer = std::make_unique<L>(std::forward<Args>(args)...);
    L& added = *layer;
    append(std::move(layer));
    return added;
  }
  void append(std::unique_ptr<Layer> layer);
  std::size_t size() const { return layers_.size(); }

 protected:
  Tensor compute(const Tensor& x) override;

 private:
  std::vector<std::unique_ptr<Layer>> layers_;
};

// p in [0, 1), else InvalidArgument naming `who`.
double check_probability(double p, const char* who);

}  // namespace weft::nn
