// Attention's tiles in plain arithmetic: any type and any width up to 256. 256 threads have tiles
// of B queries and B keys in shared memory; a score belongs to a thread, and so do, of what is
// summed over keys (or queries), a few columns of a few rows.
#pragma once

#include <cstdint>
#include <type_traits>

#include "hardware.cuh"
#include "kernels/cuda/attention_args.cuh"

namespace weft::kernels::cuda {

inline constexpr int kPlainThreads = 256;

template <class T>
using AttentionReal = std::conditional_t<std::is_same_v<T, double>, double, float>;

// C: groups of 32 columns that hold the width.
template <class T, int C>
struct PlainTiles {
  using R = AttentionReal<T>;
  static constexpr int kRows = std::is_same_v<T, double> ? 16 : 32;  // B
  static constexpr int kColumns = 32 * C;
  static constexpr int kStride = kColumns + 1;  // a column's elements lie in different banks
  static constexpr int kScoreStride = kRows + 1;
  static constexpr int kTile = kRows * kStride;
  static constexpr int kScores = kRows * kScoreStride;

  // Scores: thread i has row i / kRows + kGroups j and column i % kRows.
  static constexpr int kGroups = kPlainThreads / kRows;
  static constexpr int kPerThread = kRows / kGroups;
  // Sums: thread i has rows i / 32 + 8 j and columns i % 32 + 32 c.
  static constexpr int kSumRows = kRows / 8;

  WEFT_DEVICE static int score_row(int j) {
    return static_cast<int>(threadIdx.x) / kRows + kGroups * j;
  }
  WEFT_DEVICE static int score_column() { return static_cast<int>(threadIdx.x) % kRows; }
  WEFT_DEVICE static int sum_row(int j) { return static_cast<int>(threadIdx.x) / 32 + 8 * j; }
  WEFT_DEVICE static int sum_column(int c) { return static_cast<int>(threadIdx.x) % 32 + 32 * c; }

  // Rows [first, first + kRows) of a head, zeros beyond the length and the width.
  WEFT_DEVICE static void load(R* tile, const AttentionRows<const T>& rows, int first,
                               const AttentionArgs& args) {
    for (int i = static_cast<int>(threadIdx.x); i < kRows * kColumns; i += kPlainThreads) {
      const int row = i / kColumns, column = i % kColumns;
      const bool inside = first + row < args.length && column < args.width;
      tile[row * kStride + column] = inside ? R(rows.row(first + row)[column]) : R(0);
    }
  }

  // scores[j] = sum over columns of a[score_row(j)] * b[score_column()]
  WEFT_DEVICE static void dot_products(R (&scores)[kPerThread], const R* a, const R* b) {
    const R* const right = b + score_column() * kStride;
    const R* const left = a + score_row(0) * kStride;
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) scores[j] = R(0);
#pragma unroll 8
    for (int k = 0; k < kColumns; ++k) {
      const R factor = right[k];
#pragma unroll
      for (int j = 0; j < kPerThread; ++j) scores[j] += left[kGroups * j * kStride + k] * factor;
    }
  }

  // sums[j][c] += sum over i of weights[sum_row(j)][i] * tile[i][sum_column(c)]
  using Sums = R[kSumRows][C];
  WEFT_DEVICE static void add_products(Sums& sums, const R* weights, const R* tile) {
    const R* const left = weights + sum_row(0) * kScoreStride;
    const R* const right = tile + sum_column(0);
#pragma unroll 4
    for (int i = 0; i < kRows; ++i) {
      R factor[kSumRows];
#pragma unroll
      for (int j = 0; j < kSumRows; ++j) factor[j] = left[8 * j * kScoreStride + i];
#pragma unroll
      for (int c = 0; c < C; ++c) {
        const R value = right[i * kStride + 32 * c];
#pragma unroll
        for (int j = 0; j < kSumRows; ++j) sums[j][c] += factor[j] * value;
      }
    }
  }

  WEFT_DEVICE static void clear(Sums& sums) {
#pragma unroll
    for (int j = 0; j < kSumRows; ++j) {
#pragma unroll
      for (int c = 0; c < C; ++c) sums[j][c] = R(0);
    }
  }

  WEFT_DEVICE static void store(const Sums& sums, R factor, const AttentionRows<T>& rows, int first,
                                const AttentionArgs& args) {
#pragma unroll
    for (int j = 0; j < kSumRows; ++j) {
      const int row = first + sum_row(j);
      if (row >= args.length) continue;
#pragma unroll
      for (int c = 0; c < C; ++c) {
        if (sum_column(c) < args.width) rows.row(row)[sum_column(c)] = T(sums[j][c] * factor);
      }
    }
  }
};

// Over the threads that have one row of scores.
template <int kRows, class R>
WEFT_DEVICE R row_max(R value) {
#pragma unroll
  for (int apart = kRows / 2; apart > 0; apart /= 2) {
    const R other = warp_shuffle_xor(value, apart);
    value = other > value ? other : value;
  }
  return value;
}
template <int kRows, class R>
WEFT_DEVICE R row_sum(R value) {
#pragma unroll
  for (int apart = kRows / 2; apart > 0; apart /= 2) value += warp_shuffle_xor(value, apart);
  return value;
}

// Dropout's factor of one probability; 1 without dropout.
template <class R>
WEFT_DEVICE R dropout_factor(const AttentionArgs& args, const AttentionWords& words, int query,
                             int key) {
  if (!args.dropout) return R(1);
  return (words.kept(query, key / 4) >> key % 4 & 1u) != 0 ? static_cast<R>(args.kept) : R(0);
}

// Calls with the number of 32-column groups that hold the width: 1, 2, 4 or 8. 16-bit types come
// here with wide heads alone.
template <class T, class Call>
void with_columns(int width, const Call& call) {
  if constexpr (sizeof(T) > 2) {
    if (width <= 32) return call(std::integral_constant<int, 1>{});
    if (width <= 64) return call(std::integral_constant<int, 2>{});
    if (width <= 128) return call(std::integral_constant<int, 4>{});
  }
  call(std::integral_constant<int, 8>{});
}

}  // namespace weft::kernels::cuda
