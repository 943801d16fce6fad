// One head of causal attention as dense matrices in the type it is computed in: what a thread works
// on. Shared by forward (attention.cc) and backward (attention_backward.cc).
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/attention.h"
#include "kernels/cpu/attention_product.h"
#include "kernels/cpu/attention_rows.h"
#include "kernels/cpu/staging.h"
#include "kernels/philox.h"

namespace weft::kernels {

// A tile of scores stays in a core's L1 (forward) or L2 (backward, two of them) beside the keys
// and values. Results depend on these sizes, to rounding.
inline constexpr std::int64_t kQueryBlock = 64;
inline constexpr std::int64_t kKeyBlock = 256;

inline std::int64_t blocks_of(std::int64_t length, std::int64_t block) {
  return (length + block - 1) / block;
}

// Elements between rows: an odd number of cache lines, so that a column is not one cache set.
template <class R>
std::int64_t padded_stride(std::int64_t columns) {
  constexpr std::int64_t kLine = 64 / sizeof(R);
  return blocks_of(columns, 2 * kLine) * 2 * kLine + kLine;
}

template <class R>
R score_scale(const CausalAttention& p) {
  return static_cast<R>(1.0 / std::sqrt(static_cast<double>(p.width)));
}

// The rows of one head inside a packed tensor: `part` of `parts` projections a token (qkv has
// three, out one).
template <class E>
struct HeadRows {
  E* data = nullptr;
  std::int64_t stride = 0;

  HeadRows(const CausalAttention& p, E* packed, std::int64_t head, std::int64_t part,
           std::int64_t parts) {
    const std::int64_t channels = p.heads * p.width;
    const std::int64_t image = head / p.heads, within = head % p.heads;
    stride = parts * channels;
    data = packed + image * p.length * stride + part * channels + within * p.width;
  }
  E* row(std::int64_t r) const { return data + r * stride; }
};

// length x width, dense.
template <class R>
class HeadMatrix {
 public:
  void resize(std::int64_t rows, std::int64_t columns) {
    rows_ = rows, columns_ = columns;
    data_.resize(static_cast<std::size_t>(rows * columns));
  }
  R* row(std::int64_t r) { return data_.data() + r * columns_; }
  const R* row(std::int64_t r) const { return data_.data() + r * columns_; }
  std::int64_t columns() const { return columns_; }

  template <class T>
  void load(HeadRows<const T> from, std::int64_t rows, std::int64_t width) {
    resize(rows, width);
    if constexpr (is_staged<T>) {
      cast_rows({row(0), dtype_of<R>, width}, {from.data, dtype_of<T>, from.stride}, rows,
                Elems(width));
    } else {
      for (std::int64_t r = 0; r < rows; ++r) std::copy_n(from.row(r), width, row(r));
    }
  }
  // Rows [begin, end) to where they belong.
  template <class T>
  void store(HeadRows<T> to, std::int64_t begin, std::int64_t end) const {
    if constexpr (is_staged<T>) {
      cast_rows({to.row(begin), dtype_of<T>, to.stride}, {row(begin), dtype_of<R>, columns_},
                end - begin, Elems(columns_));
    } else {
      for (std::int64_t r = begin; r < end; ++r) std::copy_n(row(r), columns_, to.row(r));
    }
  }
  void transpose_of(const HeadMatrix& from) {
    constexpr std::int64_t kTile = 16;
    resize(from.columns_, padded_stride<R>(from.rows_));
    for (std::int64_t first = 0; first < from.rows_; first += kTile) {
      const std::int64_t last = std::min(from.rows_, first + kTile);
      for (std::int64_t c = 0; c < from.columns_; ++c) {
        for (std::int64_t r = first; r < last; ++r) row(c)[r] = from.row(r)[c];
      }
    }
  }
  void clear(std::int64_t begin, std::int64_t end) { std::fill(row(begin), row(end), R(0)); }

 private:
  std::vector<R> data_;
  std::int64_t rows_ = 0, columns_ = 0;
};

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
    factors_.resize(static_cast<std::size_t>(tile.rows * tile.stride));
    words_.resize(static_cast<std::size_t>(tile.columns));
    const std::uint64_t threshold = dropout_threshold(probability);
    const R kept = probability < 1.0 ? static_cast<R>(1.0 / (1.0 - probability)) : R(0);
    for (std::int64_t r = 0; r < tile.rows; ++r) {
      const std::int64_t n = tile.visible(r);
      const auto row = static_cast<std::uint64_t>(head * problem_.length + query + r);
      philox_words(problem_.dropout.seed, problem_.dropout.stream,
                   start_ + row * padded_ + static_cast<std::uint64_t>(key), Elems(n),
                   words_.data());
      R* factors = factors_.data() + r * tile.stride;
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
