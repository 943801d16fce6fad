// Layers over images, (N, C, H, W).
#pragma once

#include "tensor/nn/layers.h"

namespace weft::nn {

struct Conv2dOptions {
  std::int64_t stride = 1;
  std::int64_t padding = 0;
  bool bias = true;
};

class Conv2d : public Layer {  // (N, in, H, W) -> (N, out, H', W'); weight (out, in, k, k)
 public:
  Conv2d(std::int64_t in, std::int64_t out, std::int64_t kernel, Conv2dOptions options = {},
         Generator* generator = nullptr);
  Tensor& weight() { return weight_; }
  Tensor& bias() { return bias_; }

 protected:
  Tensor compute(const Tensor& x) override;

 private:
  Conv2dOptions options_;
  Tensor weight_, bias_;
};

class MaxPool2d : public Layer {
 public:
  explicit MaxPool2d(std::int64_t kernel, std::int64_t stride = 0, std::int64_t padding = 0);

 protected:
  Tensor compute(const Tensor& x) override;

 private:
  std::int64_t kernel_, stride_, padding_;  // stride 0: the kernel's size
};

class AvgPool2d : public Layer {
 public:
  explicit AvgPool2d(std::int64_t kernel, std::int64_t stride = 0, std::int64_t padding = 0);

 protected:
  Tensor compute(const Tensor& x) override;

 private:
  std::int64_t kernel_, stride_, padding_;
};

}  // namespace weft::nn
