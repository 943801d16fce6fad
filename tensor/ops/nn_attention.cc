#include "kernels/attention.h"
#include "kernels/compute_type.h"
#include "tensor/amp/operands.h"
#include "tensor/autograd/node.h"
#include "tensor/ops/nn.h"
#include "tensor/ops/nn_checks.h"

namespace weft::tensor::ops {

Tensor causal_attention(const Tensor& qkv_any, std::int64_t heads, double dropout,
                        Generator* generator) {
  if (amp::casts()) {
    return amp::low(
        [&](const Tensor& qkv) { return causal_attention(qkv, heads, dropout, generator); },
        qkv_any);
  }
  require_operand("causal_attention", qkv_any);
  if (heads < 1 || qkv_any.dim() != 3 || qkv_any.size(2) == 0 ||
      qkv_any.size(2) % (3 * heads) != 0) {
    fail<InvalidArgument>(
        "causal_attention: qkv of shape {} with {} heads; expected (batch, "
        "length, 3 * channels) with channels a positive multiple of the heads",
        to_string(qkv_any.shape()), heads);
  }
  if (!(dropout >= 0.0 && dropout <= 1.0)) {
    fail<InvalidArgument>("causal_attention: dropout {}; expected a number in [0, 1]", dropout);
  }
  const Tensor qkv = qkv_any.contiguous();
  const std::int64_t batch = qkv.size(0), length = qkv.size(1), channels = qkv.size(2) / 3;
  const Tensor out = Tensor::empty({batch, length, channels}, {qkv.dtype(), qkv.device()});
  const Tensor log_sum_exp =
      Tensor::empty({batch, heads, length}, {kernels::compute_type(qkv.dtype()), qkv.device()});
  kernels::CausalAttention problem;
  problem.dtype = qkv.dtype();
  problem.batch = batch, problem.length = length;
  problem.heads = heads, problem.width = channels / heads;
  problem.qkv = qkv.data();
  problem.out = out.data();
  problem.log_sum_exp = log_sum_exp.data();
  if (dropout > 0.0) {
    Generator& source = generator != nullptr ? *generator : default_generator();
    problem.dropout = {dropout, source.seed(), source.stream(),
                       source.reserve(kernels::attention_dropout_words(batch, heads, length))};
  }
  kernels::causal_attention(problem);
  if (!autograd::should_record({qkv})) return out;
  // `problem` points into what is captured beside it.
  return autograd::record("causal_attention", out, {qkv},
                          [problem, qkv, log_sum_exp, kept = out.detach()](const Tensor& grad) {
                            const Tensor dout = grad.contiguous();
                            const Tensor dqkv = autograd::empty_gradient(qkv);
                            kernels::causal_attention_backward(problem, dout.data(), dqkv.data());
                            return std::vector<Tensor>{dqkv};
                          });
}

}  // namespace weft::tensor::ops
