#include "tensor/nn/init.h"

#include <cmath>

#include "kernels/base/check.h"
#include "tensor/autograd/node.h"
#include "tensor/ops/basic.h"

namespace weft::nn {

void normal_(Tensor tensor, double mean, double deviation, tensor::Generator& generator) {
  NoGrad no_grad;
  auto values = ops::mul(Tensor::randn(tensor.shape(), generator), deviation);
  tensor.copy_(mean == 0.0 ? values : ops::add(values, mean));
}

void uniform_(Tensor tensor, double low, double high, tensor::Generator& generator) {
  NoGrad no_grad;
  tensor.copy_(ops::add(ops::mul(Tensor::rand(tensor.shape(), generator), high - low), low));
}

void kaiming_uniform_(Tensor tensor, std::int64_t fan_in, tensor::Generator& generator) {
  WEFT_ASSERT(fan_in > 0, "fan_in counts inputs");
  const double bound = 1.0 / std::sqrt(static_cast<double>(fan_in));
  uniform_(std::move(tensor), -bound, bound, generator);
}

}  // namespace weft::nn
