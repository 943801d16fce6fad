// C = A B where elements of A and B are found by index arithmetic instead of in a matrix, in tiles
// of 64 x 64 that go through shared memory 16 products deep; each of 256 threads sums 4 x 4
// results.
//
// A problem offers sizes m, n, k; kAlongK: whether neighbouring k of B are neighbours in memory
// (else neighbouring n are); states of a row, a column and a product, each worked out once where it
// is used often; a(row, product), b(product, column); and put(m, n, part, sum).
#pragma once

#include <cstdint>

#include "kernels/cuda/access.cuh"
#include "kernels/cuda/launch.cuh"

namespace weft::kernels::cuda {

inline constexpr int kConvTile = 64, kConvDepth = 16, kConvThreads = 256, kConvEach = 4;

// The grid: tiles of n, tiles of m, parts of k.
template <class R, class Problem>
__global__ void __launch_bounds__(kConvThreads) conv_gemm_kernel(Problem p, std::int32_t part_k) {
  __shared__ R a[kConvDepth][kConvTile + 1];
  __shared__ R b[kConvDepth][kConvTile + 1];
  const int thread = static_cast<int>(threadIdx.x);
  const int x = thread % 16, y = thread / 16;
  const std::int32_t n0 = static_cast<std::int32_t>(blockIdx.x) * kConvTile;
  const std::int32_t m0 = static_cast<std::int32_t>(blockIdx.y) * kConvTile;
  const int part = static_cast<int>(blockIdx.z);
  const std::int32_t begin = part * part_k, end = min(begin + part_k, p.k);
  // Of A: product x, rows y + 16 i. Of B along k: product x, columns y + 16 i; else column
  // thread % 64, products thread / 64 + 4 i.
  constexpr int kColumns = Problem::kAlongK ? kConvEach : 1;
  typename Problem::Column columns[kColumns];
#pragma unroll
  for (int i = 0; i < kColumns; ++i) {
    columns[i] = p.column(n0 + (Problem::kAlongK ? y + 16 * i : thread % kConvTile));
  }
  R sums[kConvEach][kConvEach] = {};
  for (std::int32_t k0 = begin; k0 < end; k0 += kConvDepth) {
    const auto product = p.product(k0 + x);
#pragma unroll
    for (int i = 0; i < kConvEach; ++i) {
      const std::int32_t row = m0 + y + 16 * i;
      const bool inside = k0 + x < end && row < p.m;
      a[x][y + 16 * i] = inside ? p.a(row, product) : R(0);
      if constexpr (Problem::kAlongK) {
        const bool there = k0 + x < end && n0 + y + 16 * i < p.n;
        b[x][y + 16 * i] = there ? p.b(product, columns[i]) : R(0);
      } else {
        const int depth = thread / kConvTile + 4 * i;
        const bool there = k0 + depth < end && n0 + thread % kConvTile < p.n;
        b[depth][thread % kConvTile] = there ? p.b(p.product(k0 + depth), columns[0]) : R(0);
      }
    }
    __syncthreads();
#pragma unroll
    for (int d = 0; d < kConvDepth; ++d) {
      R left[kConvEach], right[kConvEach];
#pragma unroll
      for (int i = 0; i < kConvEach; ++i) {
        left[i] = a[d][y + 16 * i];
        right[i] = b[d][x + 16 * i];
      }
#pragma unroll
      for (int i = 0; i < kConvEach; ++i) {
#pragma unroll
        for (int j = 0; j < kConvEach; ++j) sums[i][j] += left[i] * right[j];
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < kConvEach; ++i) {
#pragma unroll
    for (int j = 0; j < kConvEach; ++j) {
      const std::int32_t m = m0 + y + 16 * i, n = n0 + x + 16 * j;
      if (m < p.m && n < p.n) p.put(m, n, part, sums[i][j]);
    }
  }
}

// In `parts` parts of k; grid.y is limited to 65535 tiles of m, far beyond any number of channels.
template <class R, class Problem>
void launch_conv_gemm(const Problem& p, int parts, Stream stream) {
  if (p.m == 0 || p.n == 0) return;
  const auto tiles = [](std::int32_t size) {
    return static_cast<unsigned>((static_cast<std::int64_t>(size) + kConvTile - 1) / kConvTile);
  };
  const std::int32_t part_k = (p.k + parts - 1) / parts;
  launch(conv_gemm_kernel<R, Problem>,
         Shape{dim3(tiles(p.n), tiles(p.m), static_cast<unsigned>(parts)), kConvThreads}, stream, p,
         part_k);
}

}  // namespace weft::kernels::cuda
