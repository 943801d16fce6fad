// One head of causal attention as matrices: where its queries, keys and values lie, or, for halves,
// widened copies of them. Shared by forward (attention.cc) and backward (attention_backward.cc).
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/attention.h"
#include "kernels/cpu/attention_rows.h"
#include "kernels/cpu/staging.h"
#include "kernels/gemm.h"
#include "kernels/philox.h"

namespace weft::kernels {

// A tile of scores: 64 x 256 floats are 64 KiB, two of them stay in a core's L2. The keys are a
// multiple of the queries, so that a tile on the diagonal starts with a block of queries.
inline constexpr std::int64_t kQueryBlock = 64;
inline constexpr std::int64_t kKeyBlock = 256;

inline std::int64_t blocks_of(std::int64_t length, std::int64_t block) {
  return (length + block - 1) / block;
}

// Rows of `width` elements, `stride` apart, of one head of a packed tensor.
template <class E>
struct HeadRows {
  E* data = nullptr;
  std::int64_t stride = 0;
  E* row(std::int64_t r) const { return data + r * stride; }
};

// `part` 0, 1, 2 of a tensor that packs `parts` projections a token (qkv: 3, out: 1).
template <class E>
HeadRows<E> head_of(const CausalAttention& p, E* packed, std::int64_t head, std::int64_t part,
                    std::int64_t parts) {
  const std::int64_t channels = p.heads * p.width, stride = parts * channels;
  const std::int64_t image = head / p.heads, within = head % p.heads;
  return {packed + image * p.length * stride + part * channels + within * p.width, stride};
}

// The rows as Real<T>: themselves, or a widened copy in `scratch`.
template <class T>
HeadRows<const Real<T>> widened(HeadRows<const T> from, std::int64_t rows, std::int64_t width,
                                std::vector<Real<T>>& scratch) {
  if constexpr (is_staged<T>) {
    scratch.resize(static_cast<std::size_t>(rows * width));
    for (std::int64_t r = 0; r < rows; ++r) {
      cast(scratch.data() + r * width, dtype_of<Real<T>>, from.row(r), dtype_of<T>, Elems(width));
    }
    return {scratch.data(), width};
  } else {
    static_cast<void>(rows), static_cast<void>(width), static_cast<void>(scratch);
    return from;
  }
}

// Where results of rows [0, rows) go: in place, or to scratch that narrow() rounds from.
template <class T>
HeadRows<Real<T>> writable(HeadRows<T> to, std::int64_t rows, std::int64_t width,
                           std::vector<Real<T>>& scratch) {
  if constexpr (is_staged<T>) {
    scratch.resize(static_cast<std::size_t>(rows * width));
    return {scratch.data(), width};
  } else {
    static_cast<void>(rows), static_cast<void>(width), static_cast<void>(scratch);
    return to;
  }
}

template <class T>
void narrow(HeadRows<T> to, HeadRows<Real<T>> from, std::int64_t begin, std::int64_t end,
            std::int64_t width) {
  if constexpr (is_staged<T>) {
    for (std::int64_t r = begin; r < end; ++r) {
      cast(to.row(r), dtype_of<T>, from.row(r), dtype_of<Real<T>>, Elems(width));
    }
  } else {
    static_cast<void>(to), static_cast<void>(from), static_cast<void>(width);
    static_cast<void>(begin), static_cast<void>(end);
  }
}

// c[m, n] = alpha * op(a) op(b) + beta * c.
template <class R>
void product(std::int64_t m, std::int64_t n, std::int64_t k, R alpha, HeadRows<const R> a,
             Transpose transpose_a, HeadRows<const R> b, Transpose transpose_b, R beta,
             HeadRows<R> c) {
  Gemm g;
  g.dtype = dtype_of<R>;
  g.m = m, g.n = n, g.k = k;
  g.alpha = alpha, g.beta = beta;
  g.a = a.data, g.lda = a.stride, g.transpose_a = transpose_a;
  g.b = b.data, g.ldb = b.stride, g.transpose_b = transpose_b;
  g.c = c.data, g.ldc = c.stride;
  gemm(g);
}

template <class R>
R score_scale(const CausalAttention& p) {
  return static_cast<R>(1.0 / std::sqrt(static_cast<double>(p.width)));
}

// Dropout's factors of a tile: query q of head h takes the words from ((h * length) + q) * padded
// on, a word a key, where `padded` is length rounded up to whole Philox blocks.
template <class R>
class TileMask {
 public:
  explicit TileMask(const CausalAttention& p)
      : problem_(p),
        padded_(static_cast<std::uint64_t>(blocks_of(p.length, Philox::kWords)) * Philox::kWords),
        start_((p.dropout.offset + Philox::kWords - 1) / Philox::kWords * Philox::kWords) {}

  // nullptr without dropout.
  const R* draw(const ScoreTile<R>& tile, std::int64_t head, std::int64_t query, std::int64_t key) {
    const double probability = problem_.dropout.probability;
    if (probability <= 0.0) return nullptr;
    factors_.resize(static_cast<std::size_t>(tile.rows * tile.columns));
    words_.resize(static_cast<std::size_t>(tile.columns));
    const std::uint64_t threshold = dropout_threshold(probability);
    const R kept = probability < 1.0 ? static_cast<R>(1.0 / (1.0 - probability)) : R(0);
    for (std::int64_t r = 0; r < tile.rows; ++r) {
      const std::int64_t n = tile.visible(r);
      const auto row = static_cast<std::uint64_t>(head * problem_.length + query + r);
      philox_words(problem_.dropout.seed, problem_.dropout.stream,
                   start_ + row * padded_ + static_cast<std::uint64_t>(key), Elems(n),
                   words_.data());
      R* factors = factors_.data() + r * tile.columns;
      for (std::int64_t j = 0; j < n; ++j) {
        factors[j] = words_[static_cast<std::size_t>(j)] >= threshold ? kept : R(0);
      }
    }
    return factors_.data();
  }

 private:
  const CausalAttention& problem_;
  std::uint64_t padded_, start_;
  std::vector<R> factors_;
  std::vector<std::uint32_t> words_;
};

}  // namespace weft::kernels
