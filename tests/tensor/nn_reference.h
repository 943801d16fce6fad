// Operators of tensor/ops/nn.h once more, plainly, from basic operators: what the fused ones are
// held against where sizes are too large for finite differences.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/philox.h"
#include "tensor/ops/basic.h"
#include "tensor/ops/nn.h"
#include "tensor/random.h"
#include "tensor/tensor.h"

namespace weft::tests {

// The dropout factors that causal_attention draws from `generator` as it stands, (batch, heads, T,
// T) in f64; the generator is not moved.
inline Tensor attention_mask(std::int64_t batch, std::int64_t heads, std::int64_t length, double p,
                             const tensor::Generator& generator) {
  const kernels::Philox philox{generator.seed(), generator.stream()};
  const std::uint64_t start = (generator.offset() + 3) / 4 * 4;
  const auto padded = static_cast<std::uint64_t>((length + 3) / 4 * 4);
  std::vector<double> factors;
  for (std::int64_t row = 0; row < batch * heads * length; ++row) {
    for (std::int64_t key = 0; key < length; ++key) {
      const auto word = philox.at(start + static_cast<std::uint64_t>(row) * padded +
                                  static_cast<std::uint64_t>(key));
      factors.push_back(word >= kernels::dropout_threshold(p) ? 1.0 / (1.0 - p) : 0.0);
    }
  }
  return Tensor::from(factors, {batch, heads, length, length});
}

// f64 only; `mask` undefined: no dropout.
inline Tensor plain_attention(const Tensor& qkv, std::int64_t heads, const Tensor& mask = {}) {
  const std::int64_t batch = qkv.size(0), length = qkv.size(1), channels = qkv.size(2) / 3;
  const auto part = [&](std::int64_t i) {
    return qkv.narrow(2, i * channels, channels)
        .reshape({batch, length, heads, channels / heads})
        .transpose(1, 2);
  };
  std::vector<double> hidden(static_cast<std::size_t>(length * length), 0.0);
  for (std::int64_t q = 0; q < length; ++q) {
    for (std::int64_t k = q + 1; k < length; ++k) {
      hidden[static_cast<std::size_t>(q * length + k)] = -1e9;
    }
  }
  const double scale = 1.0 / std::sqrt(static_cast<double>(channels / heads));
  const Tensor scores = ops::matmul(part(0), part(1).transpose(2, 3)) * scale +
                        Tensor::from(hidden, {length, length});
  const Tensor top = ops::max(scores.detach(), 3, true);
  const Tensor e = ops::exp(scores - top);
  Tensor probabilities = e / ops::sum(e, {3}, true);
  if (mask.defined()) probabilities = probabilities * mask;
  return ops::matmul(probabilities, part(2)).transpose(1, 2).reshape({batch, length, channels});
}

}  // namespace weft::tests
