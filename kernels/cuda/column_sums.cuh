// Sums over the rows of matrices, one a column: fixed blocks of rows by blocks of threads, then a
// second kernel over the blocks, always in the same order.
//
//   a block: 32 lanes x 8 rows     lane: N neighbouring columns     y: rows y, y + 8, ...
#pragma once

#include <algorithm>

#include "kernels/cuda/access.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/scratch.h"

namespace weft::kernels::cuda {

inline constexpr int kColumnLanes = 32, kColumnRows = 8;
inline constexpr int kFoldRows = 16;

// `outer` matrices of rows x columns, cut up by the sizes alone.
struct ColumnGrid {
  std::int64_t outer, rows, columns;
  std::int64_t tiles;       // of columns
  std::int64_t row_blocks;  // of block_rows rows each
  std::int64_t block_rows;

  ColumnGrid(std::int64_t outer_, std::int64_t rows_, std::int64_t columns_, int n)
      : outer(outer_), rows(rows_), columns(columns_) {
    constexpr std::int64_t kBlocks = 132 * 8;  // a few waves of the largest device
    constexpr std::int64_t kRowsMin = 4 * kColumnRows;
    const std::int64_t width = static_cast<std::int64_t>(kColumnLanes) * n;
    tiles = (columns + width - 1) / width;
    const std::int64_t wanted = kBlocks / std::max<std::int64_t>(1, tiles * outer);
    const std::int64_t most = (rows + kRowsMin - 1) / kRowsMin;
    const std::int64_t cut = std::max<std::int64_t>(1, std::min(wanted, most));
    block_rows = std::max<std::int64_t>(1, (rows + cut - 1) / cut);
    row_blocks = std::max<std::int64_t>(1, (rows + block_rows - 1) / block_rows);
  }
  std::int64_t blocks() const { return outer * row_blocks * tiles; }
};

// Where sums go: as T, divided, and only where out is given. partials is nullptr where one block
// sees all rows of a column.
template <class T, class R, int kSums>
struct ColumnTarget {
  T* out[kSums];
  R divisor;
  R* partials;  // (outer, row_blocks, kSums, columns)

  template <class Visit>
  void pointers(const Visit& visit) const {
    for (T* sums : out) visit(sums);
    visit(partials);
  }
  __device__ void put(int sum, std::int64_t at, R value) const {
    if (out[sum] != nullptr) out[sum][at] = narrow<T>(static_cast<ComputeOf<T>>(value / divisor));
  }
};

// source.add<N>(outer, row, column, sums): sums[s][i] += what is to be summed of column + i.
template <int N, int kSums, class R, class T, class Source>
__global__ void __launch_bounds__(kColumnLanes* kColumnRows)
    column_sums_kernel(ColumnGrid grid, Source source, ColumnTarget<T, R, kSums> target) {
  __shared__ R shared[kColumnRows][kColumnLanes * N];
  const std::int64_t block = blockIdx.x;
  const std::int64_t tile = block % grid.tiles;
  const std::int64_t row_block = block / grid.tiles % grid.row_blocks;
  const std::int64_t outer = block / grid.tiles / grid.row_blocks;
  const std::int64_t tile_column = tile * kColumnLanes * N;
  const std::int64_t column = tile_column + static_cast<int>(threadIdx.x) * N;
  R sums[kSums][N] = {};
  if (column < grid.columns) {
    const std::int64_t begin = row_block * grid.block_rows;
    const std::int64_t end = min(begin + grid.block_rows, grid.rows);
#pragma unroll 4
    for (std::int64_t row = begin + threadIdx.y; row < end; row += kColumnRows) {
      source.template add<N>(outer, row, column, sums);
    }
  }
  const int thread = static_cast<int>(threadIdx.y * kColumnLanes + threadIdx.x);
#pragma unroll
  for (int s = 0; s < kSums; ++s) {
    if (s > 0) __syncthreads();
#pragma unroll
    for (int i = 0; i < N; ++i)
      shared[threadIdx.y][static_cast<int>(threadIdx.x) * N + i] = sums[s][i];
    __syncthreads();
    for (int c = thread; c < kColumnLanes * N; c += kColumnLanes * kColumnRows) {
      if (tile_column + c >= grid.columns) break;
      R total = shared[0][c];
      for (int y = 1; y < kColumnRows; ++y) total += shared[y][c];
      if (target.partials == nullptr) {
        target.put(s, outer * grid.columns + tile_column + c, total);
      } else {
        target.partials[((outer * grid.row_blocks + row_block) * kSums + s) * grid.columns +
                        tile_column + c] = total;
      }
    }
  }
}

// The second stage: `blocks` partial sums of each column of each of kSums results.
template <int kSums, class R, class T>
__global__ void __launch_bounds__(kColumnLanes* kFoldRows)
    fold_columns_kernel(std::int64_t tiles, std::int64_t blocks, std::int64_t columns,
                        ColumnTarget<T, R, kSums> target) {
  __shared__ R shared[kFoldRows][kColumnLanes + 1];
  const std::int64_t tile = blockIdx.x % tiles;
  const int sum = static_cast<int>(blockIdx.x / tiles % kSums);
  const std::int64_t outer = blockIdx.x / tiles / kSums;
  const std::int64_t column = tile * kColumnLanes + threadIdx.x;
  R total = 0;
  if (column < columns) {
#pragma unroll 8
    for (std::int64_t b = threadIdx.y; b < blocks; b += kFoldRows) {
      total += target.partials[((outer * blocks + b) * kSums + sum) * columns + column];
    }
  }
  shared[threadIdx.y][threadIdx.x] = total;
  __syncthreads();
  if (threadIdx.y > 0 || column >= columns) return;
  for (int y = 1; y < kFoldRows; ++y) total += shared[y][threadIdx.x];
  target.put(sum, outer * columns + column, total);
}

template <int kSums, class R, class T>
void launch_fold_columns(std::int64_t outer, std::int64_t blocks, std::int64_t columns,
                         const ColumnTarget<T, R, kSums>& target, Stream stream) {
  const std::int64_t tiles = (columns + kColumnLanes - 1) / kColumnLanes;
  launch(fold_columns_kernel<kSums, R, T>,
         Shape{static_cast<unsigned>(tiles * kSums * outer), dim3(kColumnLanes, kFoldRows)}, stream,
         tiles, blocks, columns, target);
}

// out[s][outer, column] = the sums of `source` over rows, divided.
template <int N, int kSums, class R, class T, class Source>
void launch_column_sums(const ColumnGrid& grid, const Source& source, T* const (&out)[kSums],
                        R divisor, Stream stream) {
  if (grid.outer * grid.columns == 0) return;
  const bool two_stages = grid.row_blocks > 1;
  const Scratch scratch(Bytes(two_stages ? grid.outer * grid.row_blocks * kSums * grid.columns *
                                               static_cast<std::int64_t>(sizeof(R))
                                         : 0),
                        stream);
  ColumnTarget<T, R, kSums> target{{}, divisor, static_cast<R*>(scratch.data())};
  for (int s = 0; s < kSums; ++s) target.out[s] = out[s];
  launch(column_sums_kernel<N, kSums, R, T, Source>,
         Shape{static_cast<unsigned>(grid.blocks()), dim3(kColumnLanes, kColumnRows)}, stream, grid,
         source, target);
  if (two_stages) {
    launch_fold_columns(grid.outer, grid.row_blocks, grid.columns, target, stream);
  }
}

}  // namespace weft::kernels::cuda
