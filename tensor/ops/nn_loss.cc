#include "kernels/compute_type.h"
#include "kernels/cross_entropy.h"
#include "kernels/embedding.h"
#include "tensor/amp/operands.h"
#include "tensor/autograd/node.h"
#include "tensor/ops/nn.h"
#include "tensor/ops/nn_checks.h"

namespace weft::tensor::ops {

Tensor cross_entropy(const Tensor& logits_any, const Tensor& targets_any,
                     std::int64_t ignore_index) {
  if (amp::casts()) {
    return amp::wide(
        [&](const Tensor& logits) { return cross_entropy(logits, targets_any, ignore_index); },
        logits_any);
  }
  require_operand("cross_entropy", logits_any);
  require_indices("cross_entropy", targets_any);
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
  const kernels::CrossEntropyLoss loss = kernels::cross_entropy(problem);
  const double share = loss.counted == 0 ? 0.0 : 1.0 / static_cast<double>(loss.counted);
  const Tensor mean = Tensor::scalar(loss.sum * share, {logits.dtype(), logits.device()});
  if (!autograd::should_record({logits})) return mean;
  // `problem` points into what is captured beside it.
  return autograd::record("cross_entropy", mean, {logits},
                          [problem, share, logits, targets, log_sum_exp](const Tensor& grad) {
                            const Tensor dlogits = autograd::empty_gradient(logits);
                            kernels::cross_entropy_backward(problem, grad.item() * share,
                                                            dlogits.data());
                            return std::vector<Tensor>{dlogits};
                          });
}

Tensor embedding(const Tensor& weight_any, const Tensor& indices_any) {
  require_operand("embedding", weight_any);
  require_indices("embedding", indices_any);
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
  kernels::embedding(problem, weight.data(), y.data());
  if (!autograd::should_record({weight})) return y;
  // `problem` points into `indices`.
  return autograd::record("embedding", y, {weight}, [problem, weight, indices](const Tensor& grad) {
    const Tensor dy = grad.contiguous();
    const Tensor dweight = autograd::empty_gradient(weight);
    kernels::embedding_backward(problem, dy.data(), dweight.data());
    return std::vector<Tensor>{dweight};
  });
}

}  // namespace weft::tensor::ops
