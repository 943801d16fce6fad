#include "tensor/nn/init.h"

#include <cmath>
#include <functional>
#include <utility>

#include "kernels/base/check.h"
#include "tensor/autograd/node.h"
#include "tensor/deferred.h"
#include "tensor/nn/deferred_init.h"
#include "tensor/ops/basic.h"

namespace weft::nn {

namespace {

// Runs now, or once `tensor` is to have its values. Draws as many words as an f32 tensor takes.
void fill(const Tensor& tensor, tensor::Generator& generator,
          const std::function<void(const Tensor&, tensor::Generator&)>& write) {
  if (!tensor::is_deferred(tensor)) return write(tensor, generator);
  tensor::add_fill(tensor, [write, later = generator](const Tensor& to) {
    tensor::Generator from = later;
    write(to, from);
  });
  generator.reserve_blocks(static_cast<std::uint64_t>(tensor.numel()));
}

thread_local bool defers = false;

}  // namespace

DeferredInit::DeferredInit() : previous_(std::exchange(defers, true)) {}
DeferredInit::~DeferredInit() { defers = previous_; }
bool DeferredInit::is_on() { return defers; }

void materialize(const Module& module) {
  for (const auto& [name, parameter] : module.named_parameters()) tensor::materialize(parameter);
  for (const auto& [name, buffer] : module.named_buffers()) tensor::materialize(buffer);
}

Tensor constant(Shape shape, double value) {
  if (!DeferredInit::is_on()) return Tensor::full(std::move(shape), value);
  return tensor::deferred_leaf(std::move(shape), DType::f32,
                               {[value](const Tensor& to) { to.fill_(value); }});
}

void normal_(Tensor tensor, double mean, double deviation, tensor::Generator& generator) {
  fill(tensor, generator, [mean, deviation](const Tensor& to, tensor::Generator& from) {
    const NoGrad no_grad;
    auto values = ops::mul(Tensor::randn(to.shape(), from), deviation);
    to.copy_(mean == 0.0 ? values : ops::add(values, mean));
  });
}

void uniform_(Tensor tensor, double low, double high, tensor::Generator& generator) {
  fill(tensor, generator, [low, high](const Tensor& to, tensor::Generator& from) {
    const NoGrad no_grad;
    to.copy_(ops::add(ops::mul(Tensor::rand(to.shape(), from), high - low), low));
  });
}

void kaiming_uniform_(Tensor tensor, std::int64_t fan_in, tensor::Generator& generator) {
  WEFT_ASSERT(fan_in > 0, "fan_in counts inputs");
  const double bound = 1.0 / std::sqrt(static_cast<double>(fan_in));
  uniform_(std::move(tensor), -bound, bound, generator);
}

}  // namespace weft::nn
