#include "kernels/compute_type.h"
#include "kernels/cross_entropy.h"
#include "kernels/cuda/cross_entropy.h"
#include "kernels/cuda/embedding.h"
#include "kernels/cuda/multi_tensor.h"
#include "kernels/embedding.h"
#include "tensor/amp/operands.h"
#include "tensor/autograd/node.h"
#include "tensor/by_device.h"
#include "tensor/ops/nn.h"
#include "tensor/ops/nn_checks.h"

namespace weft::tensor::ops {
namespace {

using kernels::CrossEntropy;

// What `problem` points into.
struct CrossEntropyMemory {
  Tensor logits, targets, log_sum_exp;
};

Tensor cross_entropy_on_cpu(const CrossEntropy& problem, const CrossEntropyMemory& memory) {
  const kernels::CrossEntropyLoss loss = kernels::cross_entropy(problem);
  const double share = loss.counted == 0 ? 0.0 : 1.0 / static_cast<double>(loss.counted);
  const Tensor mean = Tensor::scalar(loss.sum * share, {problem.dtype});
  if (!autograd::should_record({memory.logits})) return mean;
  return autograd::record(
      "cross_entropy", mean, {memory.logits}, [problem, share, memory](const Tensor& grad) {
        const Tensor dlogits = autograd::empty_gradient(memory.logits);
        kernels::cross_entropy_backward(problem, grad.item() * share, dlogits.data());
        return std::vector<Tensor>{dlogits};
      });
}

// With the gradient, for a d(mean) of 1, from the same reading of the logits.
Tensor cross_entropy_with_gradient(const CrossEntropy& problem, const CrossEntropyMemory& memory,
                                   kernels::CrossEntropyLoss* loss, const Tensor& mean) {
  const Device device = memory.logits.device();
  const Tensor dlogits = Tensor::empty(memory.logits.shape(), {problem.dtype, device});
  {
    const DeviceGuard guard(device);
    auto* const stream = Stream::current(device).handle();
    kernels::cuda::cross_entropy_fused(problem, loss, {1.0, DType::f32, nullptr, loss},
                                       dlogits.data(), stream);
    kernels::cuda::cross_entropy_mean(loss, problem.dtype, mean.data(), stream);
  }
  return autograd::record("cross_entropy", mean, {memory.logits}, [dlogits](const Tensor& grad) {
    const Tensor factor = grad.to(DType::f64);  // 1 but for loss scales: then nothing is done
    const kernels::FlatTensor gradient{dlogits.data(), Elems(dlogits.numel()), dlogits.dtype()};
    const DeviceGuard guard(dlogits.device());
    kernels::cuda::scale({&gradient, 1}, factor.data<double>(),
                         Stream::current(dlogits.device()).handle());
    return std::vector<Tensor>{dlogits};
  });
}

// The same without waiting: sum, count and gradient stay on the device.
Tensor cross_entropy_on_cuda(const CrossEntropy& problem, const CrossEntropyMemory& memory) {
  const Device device = memory.logits.device();
  const Tensor sums = Tensor::empty({sizeof(kernels::CrossEntropyLoss)}, {DType::u8, device});
  auto* const loss = static_cast<kernels::CrossEntropyLoss*>(sums.data());
  const Tensor mean = Tensor::empty({}, {problem.dtype, device});
  // Halves are rounded once, with the factor; a leaf may have a buffer for its gradient.
  if (autograd::should_record({memory.logits}) && !is_half(problem.dtype) &&
      !memory.logits.is_leaf()) {
    return cross_entropy_with_gradient(problem, memory, loss, mean);
  }
  {
    const DeviceGuard guard(device);
    auto* const stream = Stream::current(device).handle();
    kernels::cuda::cross_entropy(problem, loss, stream);
    kernels::cuda::cross_entropy_mean(loss, problem.dtype, mean.data(), stream);
  }
  if (!autograd::should_record({memory.logits})) return mean;
  return autograd::record(
      "cross_entropy", mean, {memory.logits},
      [problem, loss, sums, memory, device](const Tensor& grad) {
        const Tensor dlogits = autograd::empty_gradient(memory.logits);
        const kernels::cuda::CrossEntropyScale scale{1.0, grad.dtype(), grad.data(), loss};
        const DeviceGuard guard(device);
        kernels::cuda::cross_entropy_backward(problem, scale, dlogits.data(),
                                              Stream::current(device).handle());
        return std::vector<Tensor>{dlogits};
      });
}

}  // namespace

Tensor cross_entropy(const Tensor& logits_any, const Tensor& targets_any,
                     std::int64_t ignore_index) {
  if (amp::casts()) {
    return amp::wide(
        [&](const Tensor& logits) { return cross_entropy(logits, targets_any, ignore_index); },
        logits_any);
  }
  require_floating("cross_entropy", logits_any);
  require_indices("cross_entropy", logits_any, targets_any);
  const Shape& shape = logits_any.shape();
  if (shape.empty() || shape.back() == 0 ||
      targets_any.shape() != Shape(shape.begin(), shape.end() - 1)) {
    fail<InvalidArgument>(
        "cross_entropy: logits of shape {} with targets of shape {}; expected "
        "(..., classes) and (...)",
        to_string(shape), to_string(targets_any.shape()));
  }
  const Tensor logits = logits_any.contiguous(), targets = targets_any.contiguous();
  kernels::CrossEntropy problem;
  problem.dtype = logits.dtype();
  problem.target_type = targets.dtype();
  problem.rows = targets.numel(), problem.classes = shape.back();
  problem.logits = logits.data();
  problem.targets = targets.data();
  problem.ignore_index = ignore_index;
  const Tensor log_sum_exp =
      Tensor::empty({problem.rows}, {kernels::compute_type(logits.dtype()), logits.device()});
  problem.log_sum_exp = log_sum_exp.data();
  return logits.device().type == DeviceType::cpu
             ? cross_entropy_on_cpu(problem, {logits, targets, log_sum_exp})
             : cross_entropy_on_cuda(problem, {logits, targets, log_sum_exp});
}

Tensor embedding(const Tensor& weight_any, const Tensor& indices_any) {
  require_floating("embedding", weight_any);
  require_indices("embedding", weight_any, indices_any);
  if (weight_any.dim() != 2) {
    fail<InvalidArgument>("embedding: weight of shape {}; expected (entries, width)",
                          to_string(weight_any.shape()));
  }
  const Tensor weight = weight_any.contiguous(), indices = indices_any.contiguous();
  const kernels::Embedding problem{weight.dtype(), indices.dtype(), weight.size(0),
                                   weight.size(1), indices.numel(), indices.data()};
  Shape shape = indices.shape();
  shape.push_back(problem.width);
  const Tensor y = Tensor::empty(shape, {weight.dtype(), weight.device()});
  WEFT_BY_DEVICE(weight.device(), embedding, problem, weight.data(), y.data());
  if (!autograd::should_record({weight})) return y;
  // `problem` points into `indices`.
  return autograd::record("embedding", y, {weight}, [problem, weight, indices](const Tensor& grad) {
    const Tensor dy = grad.contiguous();
    const Tensor dweight = autograd::empty_gradient(weight);
    WEFT_BY_DEVICE(weight.device(), embedding_backward, problem, dy.data(), dweight.data());
    return std::vector<Tensor>{dweight};
  });
}

}  // namespace weft::tensor::ops
