// Forward on tensor cores. A block of four warps has a tile of queries, kept in registers; tiles of
// 64 keys and values stream through two halves of shared memory, the next one arriving while this
// one is multiplied. Scores never leave registers: a result of Q K' is, rounded, the left factor of
// P V.
#include <algorithm>

#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/launch.cuh"

namespace weft::kernels::cuda {
namespace {

constexpr int kKeys = 64;
constexpr int kScoreTiles = kKeys / 8;

// R: tiles of 16 queries a warp. Two let each fragment of keys and values serve twice; wide heads
// have registers for one.
template <class T, int W, int R, bool kDropout>
class ForwardWarp {
 public:
  static constexpr int kQueries = kTileWarps * 16 * R;  // of the block
  static constexpr int kSteps = W / 16;

  WEFT_DEVICE ForwardWarp(const AttentionArgs& args, std::int64_t head, int query)
      : words_(args, head),
        row_(static_cast<int>(threadIdx.x) / 32 * 16 * R),
        query_(query + row_),
        scale_(static_cast<float>(args.scale) * kLog2E) {
#pragma unroll
    for (int r = 0; r < R; ++r) {
      clear(out_[r]);
#pragma unroll
      for (int h = 0; h < 2; ++h) top_[r][h] = -INFINITY, sum_[r][h] = 0.0f;
    }
  }

  WEFT_DEVICE void load_queries(const T* queries) {
#pragma unroll
    for (int r = 0; r < R; ++r) {
#pragma unroll
      for (int k = 0; k < kSteps; ++k) load_a<T, W>(queries_[r][k], queries, row_ + 16 * r, k, at_);
    }
  }

  WEFT_DEVICE bool sees(int key) const { return key < query_ + 16 * R; }

  WEFT_DEVICE void add_tile(const T* keys, const T* values, int key) {
    FragmentC scores[R][kScoreTiles];
#pragma unroll
    for (int r = 0; r < R; ++r) clear(scores[r]);
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
#pragma unroll
      for (int n = 0; n < kScoreTiles; n += 2) {
        FragmentB2 b;
        load_b_across<T, W>(b, keys, 8 * n, k, at_);
#pragma unroll
        for (int r = 0; r < R; ++r) {
          multiply_add<T>(scores[r][n], scores[r][n + 1], queries_[r][k], b);
        }
      }
    }
#pragma unroll
    for (int r = 0; r < R; ++r) {
      if (key + kKeys - 1 > query_ + 16 * r) hide(scores[r], query_ + 16 * r, key);
      advance(scores[r], r);
      if constexpr (kDropout) drop(scores[r], query_ + 16 * r, key);
    }
#pragma unroll
    for (int k = 0; k < kKeys / 16; ++k) {
      FragmentA weights[R];
#pragma unroll
      for (int r = 0; r < R; ++r) as_a<T>(weights[r], scores[r][2 * k], scores[r][2 * k + 1]);
#pragma unroll
      for (int n = 0; n < W / 8; n += 2) {
        FragmentB2 b;
        load_b<T, W>(b, values, 16 * k, n / 2, at_);
#pragma unroll
        for (int r = 0; r < R; ++r) multiply_add<T>(out_[r][n], out_[r][n + 1], weights[r], b);
      }
    }
  }

  // Through this warp's rows of `staging`.
  WEFT_DEVICE void finish(const AttentionArgs& args, std::int64_t head, T* staging) {
    const float kept = kDropout ? static_cast<float>(args.kept) : 1.0f;
    auto* const log_sum_exp = static_cast<float*>(args.log_sum_exp) + head * args.length;
#pragma unroll
    for (int r = 0; r < R; ++r) {
      float factor[2];
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const float sum = quad_sum(sum_[r][h]);
        factor[h] = kept / sum;
        const int query = query_ + 16 * r + 8 * h + at_.group;
        if (at_.t == 0 && query < args.length) {
          log_sum_exp[query] = top_[r][h] * static_cast<float>(args.scale) + logf(sum);
        }
      }
#pragma unroll
      for (int n = 0; n < W / 8; ++n) {
        store_c<T, W>(staging, row_ + 16 * r, n, out_[r][n], factor[0], factor[1], at_);
      }
    }
    const AttentionRows<T> out(args, args.out, head, 0, 1);
    store_rows<T, W, 16 * R>(staging, row_, out, query_, args);
  }

 private:
  // Scores of keys behind the query.
  WEFT_DEVICE void hide(FragmentC (&scores)[kScoreTiles], int query, int key) const {
#pragma unroll
    for (int n = 0; n < kScoreTiles; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int ahead = key + 8 * n + 2 * at_.t + e % 2 - (query + at_.group + e / 2 * 8);
        if (ahead > 0) scores[n][e] = -INFINITY;
      }
    }
  }

  // Scores become exponentials against the running maximum; what was added up before is rescaled.
  // Every query sees the first key, so that the maximum is a number from the first tile on.
  WEFT_DEVICE void advance(FragmentC (&scores)[kScoreTiles], int r) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float top = top_[r][h];
#pragma unroll
      for (int n = 0; n < kScoreTiles; ++n) {
        top = fmaxf(top, fmaxf(scores[n][2 * h], scores[n][2 * h + 1]));
      }
      top = quad_max(top);
      const float shift = top * scale_;
      const float decay = exp2_approx(top_[r][h] * scale_ - shift);
      top_[r][h] = top;
      float sum = 0.0f;
#pragma unroll
      for (int n = 0; n < kScoreTiles; ++n) {
#pragma unroll
        for (int e = 2 * h; e < 2 * h + 2; ++e) {
          scores[n][e] = exp2_approx(scores[n][e] * scale_ - shift);
          sum += scores[n][e];
        }
      }
      sum_[r][h] = sum_[r][h] * decay + sum;
#pragma unroll
      for (int n = 0; n < W / 8; ++n) out_[r][n][2 * h] *= decay, out_[r][n][2 * h + 1] *= decay;
    }
  }

  // The factor of what is kept waits for finish().
  WEFT_DEVICE void drop(FragmentC (&scores)[kScoreTiles], int query, int key) const {
    const DropoutByQuery<kScoreTiles> mask(words_, query, key, at_);
#pragma unroll
    for (int n = 0; n < kScoreTiles; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) scores[n][e] = mask.kept(n, e) ? scores[n][e] : 0.0f;
    }
  }

  LanePlace at_;
  AttentionWords words_;
  int row_, query_;  // this warp's first, in the block's tile and in the head
  float scale_;      // of scores, to powers of two
  FragmentA queries_[R][kSteps];
  FragmentC out_[R][W / 8];
  float top_[R][2], sum_[R][2];  // of this lane's two rows of each tile; sum: this lane's part
};

template <class T, int W, int R, bool kDropout>
__global__ void __launch_bounds__(kTileThreads, 2)
    attention_forward_kernel(const __grid_constant__ AttentionArgs args) {
  using Warp = ForwardWarp<T, W, R, kDropout>;
  const AttentionUnit unit(attention_tiles(args.length, Warp::kQueries), true);
  const int query = unit.tile * Warp::kQueries;
  T* const queries = dynamic_shared<T>();
  T* const keys = queries + Warp::kQueries * W;
  T* const values = keys + 2 * kKeys * W;
  const AttentionRows<const T> query_rows(args, args.qkv, unit.head, 0, 3);
  const AttentionRows<const T> key_rows(args, args.qkv, unit.head, 1, 3);
  const AttentionRows<const T> value_rows(args, args.qkv, unit.head, 2, 3);
  load_tile<T, W, Warp::kQueries>(queries, query_rows, query, args);
  load_tile<T, W, kKeys>(keys, key_rows, 0, args);
  load_tile<T, W, kKeys>(values, value_rows, 0, args);
  async_commit();

  Warp warp(args, unit.head, query);
  const int end = min(args.length, query + Warp::kQueries);
  for (int key = 0; key < end; key += kKeys) {
    const int half = key / kKeys % 2 * kKeys * W;
    async_wait<0>();
    __syncthreads();  // this tile is there, and nobody reads the one before any more
    if (key + kKeys < end) {
      load_tile<T, W, kKeys>(keys + kKeys * W - half, key_rows, key + kKeys, args);
      load_tile<T, W, kKeys>(values + kKeys * W - half, value_rows, key + kKeys, args);
      async_commit();
    }
    if (key == 0) warp.load_queries(queries);
    if (warp.sees(key)) warp.add_tile(keys + half, values + half, key);
  }
  warp.finish(args, unit.head, queries);
}

template <class T, int W, int R>
void launch_width(const AttentionArgs& args, Stream stream) {
  constexpr int kQueries = kTileWarps * 16 * R;
  const Shape shape{dim3(attention_blocks(args, kQueries)), dim3(kTileThreads),
                    static_cast<unsigned>((kQueries + 4 * kKeys) * W * sizeof(T))};
  launch(args.dropout ? attention_forward_kernel<T, W, R, true>
                      : attention_forward_kernel<T, W, R, false>,
         shape, stream, args);
}

}  // namespace

template <class T>
void attention_forward(const AttentionArgs& args, Stream stream) {
  if (args.width <= 32) return launch_width<T, 32, 2>(args, stream);
  if (args.width <= 64) return launch_width<T, 64, 2>(args, stream);
  launch_width<T, 128, 1>(args, stream);
}

template void attention_forward<Half>(const AttentionArgs&, Stream);
template void attention_forward<BFloat16>(const AttentionArgs&, Stream);

}  // namespace weft::kernels::cuda
