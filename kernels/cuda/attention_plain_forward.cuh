// Forward in plain arithmetic: kernels/cuda/attention_plain.cuh.
#pragma once

#include <cmath>

#include "kernels/cuda/attention_plain.cuh"
#include "kernels/cuda/launch.cuh"

namespace weft::kernels::cuda {
namespace {

template <class T, int C>
struct ForwardShared {
  using Tiles = PlainTiles<T, C>;
  using R = typename Tiles::R;
  R queries[Tiles::kTile], keys[Tiles::kTile], values[Tiles::kTile];
  R weights[Tiles::kScores];
  R factors[Tiles::kRows];  // of what a row has summed so far
};

template <class T, int C>
__global__ void __launch_bounds__(kPlainThreads)
    attention_plain_forward_kernel(const __grid_constant__ AttentionArgs args) {
  using Tiles = PlainTiles<T, C>;
  using R = typename Tiles::R;
  constexpr int kRows = Tiles::kRows;
  const AttentionUnit unit(attention_tiles(args.length, kRows), true);
  const int query = unit.tile * kRows;
  auto& shared = *dynamic_shared<ForwardShared<T, C>>();
  const AttentionWords words(args, unit.head);
  const AttentionRows<const T> key_rows(args, args.qkv, unit.head, 1, 3);
  const AttentionRows<const T> value_rows(args, args.qkv, unit.head, 2, 3);
  Tiles::load(shared.queries, AttentionRows<const T>(args, args.qkv, unit.head, 0, 3), query, args);
  const R scale = static_cast<R>(args.scale);
  const int column = Tiles::score_column();
  R top[Tiles::kPerThread], sum[Tiles::kPerThread];
  for (int j = 0; j < Tiles::kPerThread; ++j) top[j] = -INFINITY, sum[j] = R(0);
  typename Tiles::Sums out;
  Tiles::clear(out);
  for (int key = 0; key <= query; key += kRows) {
    __syncthreads();  // nobody reads the tiles before any more
    Tiles::load(shared.keys, key_rows, key, args);
    Tiles::load(shared.values, value_rows, key, args);
    __syncthreads();
    R scores[Tiles::kPerThread];
    Tiles::dot_products(scores, shared.queries, shared.keys);
    for (int j = 0; j < Tiles::kPerThread; ++j) {
      const int row = Tiles::score_row(j);
      const bool visible = key + column <= query + row;
      const R score = visible ? scores[j] * scale : R(-INFINITY);
      const R before = top[j], tile_top = row_max<kRows>(score);
      top[j] = tile_top > before ? tile_top : before;
      const R weight = std::exp(score - top[j]), decay = std::exp(before - top[j]);
      sum[j] = sum[j] * decay + row_sum<kRows>(weight);
      const R mask = dropout_factor<R>(args, words, query + row, key + column);
      shared.weights[row * Tiles::kScoreStride + column] = weight * mask;
      if (column == 0) shared.factors[row] = decay;
    }
    __syncthreads();
    for (int j = 0; j < Tiles::kSumRows; ++j) {
      const R decay = shared.factors[Tiles::sum_row(j)];
      for (int c = 0; c < C; ++c) out[j][c] *= decay;
    }
    Tiles::add_products(out, shared.weights, shared.values);
  }
  __syncthreads();
  for (int j = 0; j < Tiles::kPerThread; ++j) {
    const int row = Tiles::score_row(j);
    if (column != 0) continue;
    shared.factors[row] = R(1) / sum[j];
    if (query + row < args.length) {
      static_cast<R*>(args.log_sum_exp)[unit.head * args.length + query + row] =
          top[j] + std::log(sum[j]);
    }
  }
  __syncthreads();
  for (int j = 0; j < Tiles::kSumRows; ++j) {
    const R factor = shared.factors[Tiles::sum_row(j)];
    for (int c = 0; c < C; ++c) out[j][c] *= factor;
  }
  Tiles::store(out, R(1), AttentionRows<T>(args, args.out, unit.head, 0, 1), query, args);
}

}  // namespace

template <class T>
void attention_plain_forward(const AttentionArgs& args, Stream stream) {
  with_columns<T>(args.width, [&](auto columns) {
    constexpr int kColumns = columns;
    const Shape shape{dim3(attention_blocks(args, PlainTiles<T, kColumns>::kRows)),
                      dim3(kPlainThreads), sizeof(ForwardShared<T, kColumns>)};
    launch(attention_plain_forward_kernel<T, kColumns>, shape, stream, args);
  });
}

}  // namespace weft::kernels::cuda
