// Backward in plain arithmetic: kernels/cuda/attention_plain.cuh; the formulas are in
// kernels/cuda/attention_backward.cuh. Queries first, which leaves D, then keys and values.
#pragma once

#include <cmath>

#include "kernels/cuda/attention_plain.cuh"
#include "kernels/cuda/launch.cuh"

namespace weft::kernels::cuda {
namespace {

template <class T, int C>
struct BackwardShared {
  using Tiles = PlainTiles<T, C>;
  using R = typename Tiles::R;
  R queries[Tiles::kTile], douts[Tiles::kTile], keys[Tiles::kTile], values[Tiles::kTile];
  R gradients[Tiles::kScores];  // dS
  R weights[Tiles::kScores];    // P * mask
  R shifts[Tiles::kRows], dots[Tiles::kRows];
};

template <class T, int C>
struct BackwardRows {
  AttentionRows<const T> queries, keys, values, douts;
  WEFT_DEVICE BackwardRows(const AttentionArgs& args, std::int64_t head)
      : queries(args, args.qkv, head, 0, 3),
        keys(args, args.qkv, head, 1, 3),
        values(args, args.qkv, head, 2, 3),
        douts(args, args.dout, head, 0, 1) {}
};

// P and dS of one score.
template <class R>
struct ScoreGradient {
  R weight, gradient;
  WEFT_DEVICE ScoreGradient(R score, R dweight, bool visible, R mask, R log_sum_exp, R dot)
      : weight(visible ? R(std::exp(score - log_sum_exp)) : R(0)),
        gradient(weight * (dweight * mask - dot)) {
    weight *= mask;
  }
};

template <class T, int C>
__global__ void __launch_bounds__(kPlainThreads)
    attention_plain_queries_kernel(const __grid_constant__ AttentionArgs args) {
  using Tiles = PlainTiles<T, C>;
  using R = typename Tiles::R;
  constexpr int kRows = Tiles::kRows;
  const AttentionUnit unit(attention_tiles(args.length, kRows), true);
  const int query = unit.tile * kRows;
  auto& shared = *dynamic_shared<BackwardShared<T, C>>();
  const AttentionWords words(args, unit.head);
  const BackwardRows<T, C> rows(args, unit.head);
  Tiles::load(shared.queries, rows.queries, query, args);
  Tiles::load(shared.douts, rows.douts, query, args);
  Tiles::load(shared.keys, AttentionRows<const T>(args, args.out, unit.head, 0, 1), query, args);
  __syncthreads();
  if (const int row = static_cast<int>(threadIdx.x); row < kRows) {
    R dot = R(0);
    for (int k = 0; k < Tiles::kColumns; ++k) {
      dot += shared.douts[row * Tiles::kStride + k] * shared.keys[row * Tiles::kStride + k];
    }
    const bool inside = query + row < args.length;
    const std::int64_t at = unit.head * args.length + query + row;
    shared.dots[row] = dot;
    shared.shifts[row] = inside ? static_cast<const R*>(args.log_sum_exp)[at] : R(0);
    if (inside) static_cast<R*>(args.dot)[at] = dot;
  }
  const R scale = static_cast<R>(args.scale);
  const int column = Tiles::score_column();
  typename Tiles::Sums dqueries;
  Tiles::clear(dqueries);
  for (int key = 0; key <= query; key += kRows) {
    __syncthreads();
    Tiles::load(shared.keys, rows.keys, key, args);
    Tiles::load(shared.values, rows.values, key, args);
    __syncthreads();
    R scores[Tiles::kPerThread], dweights[Tiles::kPerThread];
    Tiles::dot_products(scores, shared.queries, shared.keys);
    Tiles::dot_products(dweights, shared.douts, shared.values);
    for (int j = 0; j < Tiles::kPerThread; ++j) {
      const int row = Tiles::score_row(j);
      const R mask = dropout_factor<R>(args, words, query + row, key + column);
      const ScoreGradient<R> result(scores[j] * scale, dweights[j], key + column <= query + row,
                                    mask, shared.shifts[row], shared.dots[row]);
      shared.gradients[row * Tiles::kScoreStride + column] = result.gradient;
    }
    __syncthreads();
    Tiles::add_products(dqueries, shared.gradients, shared.keys);
  }
  Tiles::store(dqueries, scale, AttentionRows<T>(args, args.dqkv, unit.head, 0, 3), query, args);
}

template <class T, int C>
__global__ void __launch_bounds__(kPlainThreads)
    attention_plain_keys_kernel(const __grid_constant__ AttentionArgs args) {
  using Tiles = PlainTiles<T, C>;
  using R = typename Tiles::R;
  constexpr int kRows = Tiles::kRows;
  const AttentionUnit unit(attention_tiles(args.length, kRows), false);
  const int key = unit.tile * kRows;
  auto& shared = *dynamic_shared<BackwardShared<T, C>>();
  const AttentionWords words(args, unit.head);
  const BackwardRows<T, C> rows(args, unit.head);
  Tiles::load(shared.keys, rows.keys, key, args);
  Tiles::load(shared.values, rows.values, key, args);
  const R scale = static_cast<R>(args.scale);
  const int column = Tiles::score_column();
  typename Tiles::Sums dkeys, dvalues;
  Tiles::clear(dkeys);
  Tiles::clear(dvalues);
  for (int query = key; query < args.length; query += kRows) {
    __syncthreads();
    Tiles::load(shared.queries, rows.queries, query, args);
    Tiles::load(shared.douts, rows.douts, query, args);
    if (const int row = static_cast<int>(threadIdx.x); row < kRows) {
      const bool inside = query + row < args.length;
      const std::int64_t at = unit.head * args.length + query + row;
      shared.shifts[row] = inside ? static_cast<const R*>(args.log_sum_exp)[at] : R(INFINITY);
      shared.dots[row] = inside ? static_cast<const R*>(args.dot)[at] : R(0);
    }
    __syncthreads();
    // Rows are keys, columns queries.
    R scores[Tiles::kPerThread], dweights[Tiles::kPerThread];
    Tiles::dot_products(scores, shared.keys, shared.queries);
    Tiles::dot_products(dweights, shared.values, shared.douts);
    for (int j = 0; j < Tiles::kPerThread; ++j) {
      const int row = Tiles::score_row(j);
      const R mask = dropout_factor<R>(args, words, query + column, key + row);
      const ScoreGradient<R> result(scores[j] * scale, dweights[j], key + row <= query + column,
                                    mask, shared.shifts[column], shared.dots[column]);
      shared.weights[row * Tiles::kScoreStride + column] = result.weight;
      shared.gradients[row * Tiles::kScoreStride + column] = result.gradient;
    }
    __syncthreads();
    Tiles::add_products(dvalues, shared.weights, shared.douts);
    Tiles::add_products(dkeys, shared.gradients, shared.queries);
  }
  Tiles::store(dkeys, scale, AttentionRows<T>(args, args.dqkv, unit.head, 1, 3), key, args);
  Tiles::store(dvalues, R(1), AttentionRows<T>(args, args.dqkv, unit.head, 2, 3), key, args);
}

}  // namespace

template <class T>
void attention_plain_backward(const AttentionArgs& args, Stream stream) {
  with_columns<T>(args.width, [&](auto columns) {
    constexpr int kColumns = columns;
    const Shape shape{dim3(attention_blocks(args, PlainTiles<T, kColumns>::kRows)),
                      dim3(kPlainThreads), sizeof(BackwardShared<T, kColumns>)};
    launch(attention_plain_queries_kernel<T, kColumns>, shape, stream, args);
    launch(attention_plain_keys_kernel<T, kColumns>, shape, stream, args);
  });
}

}  // namespace weft::kernels::cuda
