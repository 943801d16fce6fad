// The tiles of attention on tensor cores: how they lie in shared memory, and how a warp gets the
// fragments of mma.m16n8k16 from them (hardware.cuh has the picture of a fragment).
//
// A tile has rows of W 16-bit elements, in chunks of 16 bytes. The chunks of a row are permuted by
// the row, so that the eight rows which ldmatrix reads at one chunk lie in different banks:
//
//   chunk    0 1 2 3 4 5 6 7           W = 64: row r keeps chunk c at c ^ (r % 8)
//   row 0    0 1 2 3 4 5 6 7
//   row 1    1 0 3 2 5 4 7 6
//   row 2    2 3 0 1 6 7 4 5   ...
#pragma once

#include <cstdint>

#include "hardware.cuh"
#include "kernels/cuda/attention_args.cuh"

namespace weft::kernels::cuda {

inline constexpr int kTileWarps = 4;
inline constexpr int kTileThreads = kTileWarps * 32;
inline constexpr int kChunk = 8;  // elements of 16 bytes
inline constexpr float kLog2E = 1.4426950408889634f;

template <int W>
struct TileLayout {
  static constexpr int kChunks = W / kChunk;
  static_assert(kChunks == 4 || kChunks % 8 == 0);

  // The element where a chunk of a row begins.
  WEFT_DEVICE static int at(int row, int chunk) {
    const int mixed = kChunks == 4 ? (row / 2) & 3 : row & 7;
    return (row * kChunks + (chunk ^ mixed)) * kChunk;
  }
};

// Starts to fill a tile with rows [first, first + kRows) of a head, in all threads of the block;
// zeros beyond the length and the width. Done after async_commit(), async_wait() and a barrier.
template <class T, int W, int kRows>
WEFT_DEVICE void load_tile(T* tile, const AttentionRows<const T>& rows, int first,
                           const AttentionArgs& args) {
  constexpr int kChunks = TileLayout<W>::kChunks;
  static_assert(kRows * kChunks % kTileThreads == 0);
#pragma unroll
  for (int i = 0; i < kRows * kChunks / kTileThreads; ++i) {
    const int index = i * kTileThreads + static_cast<int>(threadIdx.x);
    const int row = index / kChunks, column = index % kChunks * kChunk;
    T* const to = tile + TileLayout<W>::at(row, index % kChunks);
    const bool inside = first + row < args.length && column < args.width;
    const T* const from = rows.row(inside ? first + row : 0) + (inside ? column : 0);
    if (args.aligned) {
      async_copy_16(to, from, inside);
      continue;
    }
    Pack<T, kChunk> chunk;
#pragma unroll
    for (int e = 0; e < kChunk; ++e) {
      chunk[e] = inside && column + e < args.width ? from[e] : T{};
    }
    *reinterpret_cast<Pack<T, kChunk>*>(to) = chunk;
  }
}

// Rows [row, row + kRows) of a tile in shared memory, which this warp has written, to rows
// [first, ...) of a head.
template <class T, int W, int kRows>
WEFT_DEVICE void store_rows(const T* tile, int row, const AttentionRows<T>& rows, int first,
                            const AttentionArgs& args) {
  constexpr int kChunks = TileLayout<W>::kChunks;
  __syncwarp();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int index = lane; index < kRows * kChunks; index += 32) {
    const int r = index / kChunks, column = index % kChunks * kChunk;
    if (first + r >= args.length || column >= args.width) continue;
    const auto chunk = *reinterpret_cast<const Pack<T, kChunk>*>(
        tile + TileLayout<W>::at(row + r, index % kChunks));
    T* const to = rows.row(first + r) + column;
    if (args.aligned) {
      *reinterpret_cast<Pack<T, kChunk>*>(to) = chunk;
      continue;
    }
    for (int e = 0; e < kChunk && column + e < args.width; ++e) to[e] = chunk[e];
  }
}

// ---- fragments; lane = 4 * group + t

using FragmentA = std::uint32_t[4];   // 16 x 16
using FragmentB2 = std::uint32_t[4];  // two of 16 x 8, side by side
using FragmentC = float[4];           // 16 x 8

struct LanePlace {
  int lane, group, t;
  WEFT_DEVICE LanePlace()
      : lane(static_cast<int>(threadIdx.x) % 32), group(lane / 4), t(lane % 4) {}
};

// Rows [row, row + 16), columns [16 step, ...) of a tile.
template <class T, int W>
WEFT_DEVICE void load_a(FragmentA& a, const T* tile, int row, int step, const LanePlace& at) {
  ldmatrix_x4(a, tile + TileLayout<W>::at(row + at.lane % 16, 2 * step + at.lane / 16));
}
WEFT_DEVICE void copy_a(FragmentA& to, const FragmentA& from) {
#pragma unroll
  for (int i = 0; i < 4; ++i) to[i] = from[i];
}
// The tile's rows are B's columns [column, column + 16); its columns [16 step, ...) B's rows.
template <class T, int W>
WEFT_DEVICE void load_b_across(FragmentB2& b, const T* tile, int column, int step,
                               const LanePlace& at) {
  ldmatrix_x4(b, tile + TileLayout<W>::at(column + at.lane / 16 * 8 + at.lane % 8,
                                          2 * step + at.lane / 8 % 2));
}
// The tile's rows [row, row + 16) are B's rows; its columns [16 step, ...) B's columns.
template <class T, int W>
WEFT_DEVICE void load_b(FragmentB2& b, const T* tile, int row, int step, const LanePlace& at) {
  ldmatrix_x4_trans(b, tile + TileLayout<W>::at(row + at.lane % 16, 2 * step + at.lane / 16));
}

template <class T>
WEFT_DEVICE void multiply_add(FragmentC& left, FragmentC& right, const FragmentA& a,
                              const FragmentB2& b) {
  const std::uint32_t first[2] = {b[0], b[1]}, second[2] = {b[2], b[3]};
  mma_m16n8k16<T>(left, a, first, left);
  mma_m16n8k16<T>(right, a, second, right);
}

// Two results side by side, rounded, are the left factor of the next product.
template <class T>
WEFT_DEVICE void as_a(FragmentA& a, const FragmentC& left, const FragmentC& right) {
  a[0] = pack_two<T>(left[0], left[1]);
  a[1] = pack_two<T>(left[2], left[3]);
  a[2] = pack_two<T>(right[0], right[1]);
  a[3] = pack_two<T>(right[2], right[3]);
}

// A result of 16 x 8, times a factor for each of this lane's two rows, to a tile in shared memory.
template <class T, int W>
WEFT_DEVICE void store_c(T* tile, int row, int chunk, const FragmentC& c, float upper, float lower,
                         const LanePlace& at) {
  T* const first = tile + TileLayout<W>::at(row + at.group, chunk) + 2 * at.t;
  T* const second = tile + TileLayout<W>::at(row + at.group + 8, chunk) + 2 * at.t;
  *reinterpret_cast<std::uint32_t*>(first) = pack_two<T>(c[0] * upper, c[1] * upper);
  *reinterpret_cast<std::uint32_t*>(second) = pack_two<T>(c[2] * lower, c[3] * lower);
}

template <int N>
WEFT_DEVICE void clear(FragmentC (&c)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) {
#pragma unroll
    for (int e = 0; e < 4; ++e) c[i][e] = 0.0f;
  }
}

// Over the four lanes that share rows.
WEFT_DEVICE float quad_max(float value) {
  value = fmaxf(value, warp_shuffle_xor(value, 1));
  return fmaxf(value, warp_shuffle_xor(value, 2));
}
WEFT_DEVICE float quad_sum(float value) {
  value += warp_shuffle_xor(value, 1);
  return value + warp_shuffle_xor(value, 2);
}

// ---- dropout, as bits for this lane's elements of 16 x 8N results

// Rows are queries, from `query`; columns keys, from `key` (a multiple of 4). A block of four words
// serves two lanes: the even one draws for its upper row, the odd one for its lower row.
template <int N>
struct DropoutByQuery {
  static_assert(4 * N <= 32);
  std::uint32_t upper, lower;
  int shift;

  WEFT_DEVICE DropoutByQuery(const AttentionWords& words, int query, int key, const LanePlace& at)
      : shift(2 * (at.t % 2)) {
    const bool odd = at.t % 2 != 0;
    const int row = query + at.group + (odd ? 8 : 0);
    std::uint32_t mine = 0;
#pragma unroll 2
    for (int n = 0; n < N; ++n) mine |= words.kept(row, key / 4 + 2 * n + at.t / 2) << (4 * n);
    const std::uint32_t other = warp_shuffle_xor(mine, 1);
    upper = odd ? other : mine;
    lower = odd ? mine : other;
  }
  WEFT_DEVICE bool kept(int n, int e) const {
    return ((e < 2 ? upper : lower) >> (4 * n + shift + e % 2) & 1u) != 0;
  }
};

// Rows are keys, from `key` (a multiple of 16); columns queries, from `query`. A block of four
// words lies across four groups of lanes: of the four blocks that they need, each draws one.
template <int N>
struct DropoutByKey {
  static_assert(4 * N <= 32);
  std::uint32_t blocks[4];  // (query, query + 1) of the upper rows, of the lower rows
  int shift;

  WEFT_DEVICE DropoutByKey(const AttentionWords& words, int query, int key, const LanePlace& at)
      : shift(at.group % 4) {
    const int key_group = key / 4 + at.group / 4 + (shift >= 2 ? 2 : 0);
    std::uint32_t mine = 0;
#pragma unroll 2
    for (int n = 0; n < N; ++n) {
      mine |= words.kept(query + 8 * n + 2 * at.t + shift % 2, key_group) << (4 * n);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      blocks[i] = warp_shuffle_idx(mine, at.group / 4 * 16 + i * 4 + at.t);
    }
  }
  WEFT_DEVICE bool kept(int n, int e) const { return (blocks[e] >> (4 * n + shift) & 1u) != 0; }
};

}  // namespace weft::kernels::cuda
