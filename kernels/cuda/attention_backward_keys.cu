// The gradients of keys and values on tensor cores: a block of four warps has a tile of 64 keys,
// tiles of queries stream by from the diagonal on. Scores are computed transposed, rows being keys,
// so that they are, rounded, the left factors of dV = P' dO and dK = dS' Q without leaving
// registers.
#include "kernels/cuda/attention_backward.cuh"
#include "kernels/cuda/launch.cuh"

namespace weft::kernels::cuda {
namespace {

constexpr int kKeys = kTileWarps * 16;

// Of a tile of queries: wide heads have registers for fewer scores at a time.
template <int W>
inline constexpr int kQueriesOf = W <= 64 ? 64 : 32;

// What belongs to a tile of queries in shared memory.
template <class T>
struct QueriesTile {
  const T *queries, *douts;
  const float *shifts, *dots;  // one a query; log_sum_exp * log2(e)
};

template <class T, int W, bool kDropout>
class KeysWarp {
  static constexpr int kSteps = W / 16;
  static constexpr int kQueries = kQueriesOf<W>;
  static constexpr int kScoreTiles = kQueries / 8;
  // What the registers do not hold is read again for each tile of queries.
  static constexpr bool kHoldKeys = W <= 64, kHoldValues = W <= 32;

 public:
  WEFT_DEVICE KeysWarp(const AttentionArgs& args, std::int64_t head, int key, const T* keys,
                       const T* values)
      : words_(args, head),
        row_(static_cast<int>(threadIdx.x) / 32 * 16),
        key_(key + row_),
        scale_log2_(static_cast<float>(args.scale) * kLog2E),
        kept_(kDropout ? static_cast<float>(args.kept) : 1.0f),
        keys_(keys),
        values_(values) {
    clear(dkeys_);
    clear(dvalues_);
  }

  // Once the tiles of keys and values are in shared memory.
  WEFT_DEVICE void begin() {
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      if constexpr (kHoldKeys) load_a<T, W>(held_keys_[k], keys_, row_, k, at_);
      if constexpr (kHoldValues) load_a<T, W>(held_values_[k], values_, row_, k, at_);
    }
  }

  WEFT_DEVICE bool seen_from(int query) const { return key_ < query + kQueries; }

  WEFT_DEVICE void add_tile(const QueriesTile<T>& tile, int query) {
    FragmentC scores[kScoreTiles], gradients[kScoreTiles];
    clear(scores);
    clear(gradients);
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      FragmentA key, value;
      if constexpr (kHoldKeys) {
        copy_a(key, held_keys_[k]);
      } else {
        load_a<T, W>(key, keys_, row_, k, at_);
      }
      if constexpr (kHoldValues) {
        copy_a(value, held_values_[k]);
      } else {
        load_a<T, W>(value, values_, row_, k, at_);
      }
#pragma unroll
      for (int n = 0; n < kScoreTiles; n += 2) {
        FragmentB2 b;
        load_b_across<T, W>(b, tile.queries, 8 * n, k, at_);
        multiply_add<T>(scores[n], scores[n + 1], key, b);
        load_b_across<T, W>(b, tile.douts, 8 * n, k, at_);
        multiply_add<T>(gradients[n], gradients[n + 1], value, b);
      }
    }
    differentiate(scores, gradients, tile, query);
#pragma unroll
    for (int k = 0; k < kQueries / 16; ++k) {
      FragmentA p, s;
      as_a<T>(p, scores[2 * k], scores[2 * k + 1]);
      as_a<T>(s, gradients[2 * k], gradients[2 * k + 1]);
#pragma unroll
      for (int n = 0; n < W / 8; n += 2) {
        FragmentB2 b;
        load_b<T, W>(b, tile.douts, 16 * k, n / 2, at_);
        multiply_add<T>(dvalues_[n], dvalues_[n + 1], p, b);
      }
#pragma unroll
      for (int n = 0; n < W / 8; n += 2) {
        FragmentB2 b;
        load_b<T, W>(b, tile.queries, 16 * k, n / 2, at_);
        multiply_add<T>(dkeys_[n], dkeys_[n + 1], s, b);
      }
    }
  }

  // Through this warp's rows of the tiles of keys and values, which no other warp reads.
  WEFT_DEVICE void finish(const AttentionArgs& args, std::int64_t head, T* keys, T* values) {
    const auto scale = static_cast<float>(args.scale);
#pragma unroll
    for (int n = 0; n < W / 8; ++n) {
      store_c<T, W>(keys, row_, n, dkeys_[n], scale, scale, at_);
      store_c<T, W>(values, row_, n, dvalues_[n], 1.0f, 1.0f, at_);
    }
    const AttentionRows<T> to_keys(args, args.dqkv, head, 1, 3);
    const AttentionRows<T> to_values(args, args.dqkv, head, 2, 3);
    store_rows<T, W, 16>(keys, row_, to_keys, key_, args);
    store_rows<T, W, 16>(values, row_, to_values, key_, args);
  }

 private:
  WEFT_DEVICE void differentiate(FragmentC (&scores)[kScoreTiles],
                                 FragmentC (&gradients)[kScoreTiles], const QueriesTile<T>& tile,
                                 int query) const {
    const bool whole = key_ + 15 <= query;
    const auto apply = [&](const auto& mask) {
#pragma unroll
      for (int n = 0; n < kScoreTiles; ++n) {
        const int column = 8 * n + 2 * at_.t;
        const float2 shift = *reinterpret_cast<const float2*>(tile.shifts + column);
        const float2 dot = *reinterpret_cast<const float2*>(tile.dots + column);
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const bool visible = whole || key_ + at_.group + e / 2 * 8 <= query + column + e % 2;
          score_gradient(scores[n][e], gradients[n][e], visible, mask(n, e), scale_log2_,
                         e % 2 == 0 ? shift.x : shift.y, e % 2 == 0 ? dot.x : dot.y);
        }
      }
    };
    if constexpr (kDropout) {
      const DropoutByKey<kScoreTiles> drawn(words_, query, key_, at_);
      apply([&](int n, int e) { return drawn.kept(n, e) ? kept_ : 0.0f; });
    } else {
      apply([](int, int) { return 1.0f; });
    }
  }

  LanePlace at_;
  AttentionWords words_;
  int row_, key_;
  float scale_log2_, kept_;
  const T *keys_, *values_;  // tiles in shared memory
  FragmentA held_keys_[kHoldKeys ? kSteps : 1], held_values_[kHoldValues ? kSteps : 1];
  FragmentC dkeys_[W / 8], dvalues_[W / 8];
};

// log_sum_exp * log2(e) of the tile's queries in the first threads, D in the next ones. A query
// beyond the length weighs nothing.
template <int kQueries>
WEFT_DEVICE float statistic(const AttentionArgs& args, std::int64_t head, int query) {
  const int thread = static_cast<int>(threadIdx.x);
  if (thread >= 2 * kQueries) return 0.0f;
  const int row = query + thread % kQueries;
  const bool inside = row < args.length;
  const std::int64_t at = head * args.length + row;
  if (thread < kQueries) {
    return inside ? static_cast<const float*>(args.log_sum_exp)[at] * kLog2E : INFINITY;
  }
  return inside ? static_cast<const float*>(args.dot)[at] : 0.0f;
}

template <class T, int W, bool kDropout>
__global__ void __launch_bounds__(kTileThreads, 2)
    attention_backward_keys_kernel(const __grid_constant__ AttentionArgs args) {
  constexpr int kQueries = kQueriesOf<W>;
  static_assert(2 * kQueries <= kTileThreads);
  __shared__ float statistics[2][2 * kQueries];
  const AttentionUnit unit(attention_tiles(args.length, kKeys), false);
  const int key = unit.tile * kKeys;
  T* const keys = dynamic_shared<T>();
  T* const values = keys + kKeys * W;
  T* const queries = values + kKeys * W;
  T* const douts = queries + 2 * kQueries * W;
  const AttentionRows<const T> query_rows(args, args.qkv, unit.head, 0, 3);
  const AttentionRows<const T> key_rows(args, args.qkv, unit.head, 1, 3);
  const AttentionRows<const T> value_rows(args, args.qkv, unit.head, 2, 3);
  const AttentionRows<const T> dout_rows(args, args.dout, unit.head, 0, 1);
  const int thread = static_cast<int>(threadIdx.x);
  load_tile<T, W, kKeys>(keys, key_rows, key, args);
  load_tile<T, W, kKeys>(values, value_rows, key, args);
  load_tile<T, W, kQueries>(queries, query_rows, key, args);
  load_tile<T, W, kQueries>(douts, dout_rows, key, args);
  async_commit();
  if (thread < 2 * kQueries) statistics[0][thread] = statistic<kQueries>(args, unit.head, key);

  KeysWarp<T, W, kDropout> warp(args, unit.head, key, keys, values);
  static_assert(kKeys % kQueries == 0);  // the diagonal begins a tile of queries
  for (int query = key, turn = 0; query < args.length; query += kQueries, turn ^= 1) {
    const int half = turn * kQueries * W;
    async_wait<0>();
    __syncthreads();
    const bool more = query + kQueries < args.length;
    float next = 0.0f;
    if (more) {
      load_tile<T, W, kQueries>(queries + kQueries * W - half, query_rows, query + kQueries, args);
      load_tile<T, W, kQueries>(douts + kQueries * W - half, dout_rows, query + kQueries, args);
      async_commit();
      next = statistic<kQueries>(args, unit.head, query + kQueries);
    }
    if (query == key) warp.begin();
    if (warp.seen_from(query)) {
      warp.add_tile({queries + half, douts + half, statistics[turn], statistics[turn] + kQueries},
                    query);
    }
    if (more && thread < 2 * kQueries) statistics[turn ^ 1][thread] = next;
  }
  warp.finish(args, unit.head, keys, values);
}

template <class T, int W>
void launch_width(const AttentionArgs& args, Stream stream) {
  const Shape shape{dim3(attention_blocks(args, kKeys)), dim3(kTileThreads),
                    static_cast<unsigned>((2 * kKeys + 4 * kQueriesOf<W>)*W * sizeof(T))};
  launch(args.dropout ? attention_backward_keys_kernel<T, W, true>
                      : attention_backward_keys_kernel<T, W, false>,
         shape, stream, args);
}

}  // namespace

template <class T>
void attention_backward_keys(const AttentionArgs& args, Stream stream) {
  if (args.width <= 32) return launch_width<T, 32>(args, stream);
  if (args.width <= 64) return launch_width<T, 64>(args, stream);
  launch_width<T, 128>(args, stream);
}

template void attention_backward_keys<Half>(const AttentionArgs&, Stream);
template void attention_backward_keys<BFloat16>(const AttentionArgs&, Stream);

}  // namespace weft::kernels::cuda
