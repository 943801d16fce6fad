// The gradient of queries on tensor cores: a block of four warps has a tile of 64 queries, tiles of
// 64 keys and values stream by. First of backward's two kernels: also leaves D for the other.
#include "kernels/cuda/attention_backward.cuh"
#include "kernels/cuda/launch.cuh"

namespace weft::kernels::cuda {
namespace {

constexpr int kQueries = kTileWarps * 16;
constexpr int kKeys = 64;
constexpr int kScoreTiles = kKeys / 8;

template <class T, int W, bool kDropout>
class QueriesWarp {
  static constexpr int kSteps = W / 16;
  // Wide heads have no registers for them: read again for each tile of keys.
  static constexpr bool kHeld = W <= 64;

 public:
  WEFT_DEVICE QueriesWarp(const AttentionArgs& args, std::int64_t head, int query, const T* queries,
                          const T* douts)
      : words_(args, head),
        row_(static_cast<int>(threadIdx.x) / 32 * 16),
        query_(query + row_),
        scale_log2_(static_cast<float>(args.scale) * kLog2E),
        kept_(kDropout ? static_cast<float>(args.kept) : 1.0f),
        queries_(queries),
        douts_(douts) {
    clear(gradient_);
  }

  // Once the tiles and `dots` are in shared memory.
  WEFT_DEVICE void begin(const AttentionArgs& args, std::int64_t head, const float* dots) {
    const auto* const log_sum_exp =
        static_cast<const float*>(args.log_sum_exp) + head * args.length;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int r = at_.group + 8 * h;
      dot_[h] = dots[row_ + r];
      shift_[h] = query_ + r < args.length ? log_sum_exp[query_ + r] * kLog2E : 0.0f;
    }
    if constexpr (kHeld) {
#pragma unroll
      for (int k = 0; k < kSteps; ++k) {
        load_a<T, W>(held_queries_[k], queries_, row_, k, at_);
        load_a<T, W>(held_douts_[k], douts_, row_, k, at_);
      }
    }
  }

  WEFT_DEVICE bool sees(int key) const { return key < query_ + 16; }

  WEFT_DEVICE void add_tile(const T* keys, const T* values, int key) {
    FragmentC scores[kScoreTiles], gradients[kScoreTiles];
    clear(scores);
    clear(gradients);
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      FragmentA q, d;
      if constexpr (kHeld) {
        copy_a(q, held_queries_[k]);
        copy_a(d, held_douts_[k]);
      } else {
        load_a<T, W>(q, queries_, row_, k, at_);
        load_a<T, W>(d, douts_, row_, k, at_);
      }
#pragma unroll
      for (int n = 0; n < kScoreTiles; n += 2) {
        FragmentB2 b;
        load_b_across<T, W>(b, keys, 8 * n, k, at_);
        multiply_add<T>(scores[n], scores[n + 1], q, b);
        load_b_across<T, W>(b, values, 8 * n, k, at_);
        multiply_add<T>(gradients[n], gradients[n + 1], d, b);
      }
    }
    differentiate(scores, gradients, key);
#pragma unroll
    for (int k = 0; k < kKeys / 16; ++k) {
      FragmentA a;
      as_a<T>(a, gradients[2 * k], gradients[2 * k + 1]);
#pragma unroll
      for (int n = 0; n < W / 8; n += 2) {
        FragmentB2 b;
        load_b<T, W>(b, keys, 16 * k, n / 2, at_);
        multiply_add<T>(gradient_[n], gradient_[n + 1], a, b);
      }
    }
  }

  WEFT_DEVICE void finish(const AttentionArgs& args, std::int64_t head, T* staging) {
    const auto scale = static_cast<float>(args.scale);
#pragma unroll
    for (int n = 0; n < W / 8; ++n)
      store_c<T, W>(staging, row_, n, gradient_[n], scale, scale, at_);
    const AttentionRows<T> to(args, args.dqkv, head, 0, 3);
    store_rows<T, W, 16>(staging, row_, to, query_, args);
  }

 private:
  WEFT_DEVICE void differentiate(FragmentC (&scores)[kScoreTiles],
                                 FragmentC (&gradients)[kScoreTiles], int key) const {
    const bool whole = key + kKeys - 1 <= query_;
    const auto visible = [&](int n, int e) {
      return whole || key + 8 * n + 2 * at_.t + e % 2 <= query_ + at_.group + e / 2 * 8;
    };
    if constexpr (kDropout) {
      const DropoutByQuery<kScoreTiles> mask(words_, query_, key, at_);
#pragma unroll
      for (int n = 0; n < kScoreTiles; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          score_gradient(scores[n][e], gradients[n][e], visible(n, e),
                         mask.kept(n, e) ? kept_ : 0.0f, scale_log2_, shift_[e / 2], dot_[e / 2]);
        }
      }
    } else {
#pragma unroll
      for (int n = 0; n < kScoreTiles; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          score_gradient(scores[n][e], gradients[n][e], visible(n, e), 1.0f, scale_log2_,
                         shift_[e / 2], dot_[e / 2]);
        }
      }
    }
  }

  LanePlace at_;
  AttentionWords words_;
  int row_, query_;
  float scale_log2_, kept_;
  const T *queries_, *douts_;  // tiles in shared memory
  float dot_[2], shift_[2];    // of this lane's two rows
  FragmentA held_queries_[kHeld ? kSteps : 1], held_douts_[kHeld ? kSteps : 1];
  FragmentC gradient_[W / 8];
};

// Sums of dout * out over each row of two tiles, two threads a row.
template <class T, int W>
WEFT_DEVICE void leave_dots(const AttentionArgs& args, std::int64_t head, int query, const T* douts,
                            const T* outs, float* dots) {
  static_assert(kTileThreads == 2 * kQueries);
  constexpr int kChunks = TileLayout<W>::kChunks;
  const int row = static_cast<int>(threadIdx.x) / 2, side = static_cast<int>(threadIdx.x) % 2;
  float sum = 0.0f;
#pragma unroll
  for (int c = 0; c < kChunks / 2; ++c) {
    const int at = TileLayout<W>::at(row, side * (kChunks / 2) + c);
    const auto a = *reinterpret_cast<const Pack<std::uint32_t, 4>*>(douts + at);
    const auto b = *reinterpret_cast<const Pack<std::uint32_t, 4>*>(outs + at);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 x = unpack_two<T>(a[i]), y = unpack_two<T>(b[i]);
      sum += x.x * y.x;
      sum += x.y * y.y;
    }
  }
  sum += warp_shuffle_xor(sum, 1);
  if (side != 0) return;
  dots[row] = sum;
  if (query + row < args.length) {
    static_cast<float*>(args.dot)[head * args.length + query + row] = sum;
  }
}

template <class T, int W, bool kDropout>
__global__ void __launch_bounds__(kTileThreads, 2)
    attention_backward_queries_kernel(const __grid_constant__ AttentionArgs args) {
  __shared__ float dots[kQueries];
  const AttentionUnit unit(attention_tiles(args.length, kQueries), true);
  const int query = unit.tile * kQueries;
  T* const queries = dynamic_shared<T>();
  T* const douts = queries + kQueries * W;
  T* const keys = douts + kQueries * W;
  T* const values = keys + 2 * kKeys * W;
  const AttentionRows<const T> query_rows(args, args.qkv, unit.head, 0, 3);
  const AttentionRows<const T> key_rows(args, args.qkv, unit.head, 1, 3);
  const AttentionRows<const T> value_rows(args, args.qkv, unit.head, 2, 3);
  const AttentionRows<const T> dout_rows(args, args.dout, unit.head, 0, 1);
  const AttentionRows<const T> out_rows(args, args.out, unit.head, 0, 1);
  static_assert(kQueries == kKeys);
  T* const outs = keys + kKeys * W;  // until the second tile of keys comes
  load_tile<T, W, kQueries>(queries, query_rows, query, args);
  load_tile<T, W, kQueries>(douts, dout_rows, query, args);
  load_tile<T, W, kQueries>(outs, out_rows, query, args);
  async_commit();
  load_tile<T, W, kKeys>(keys, key_rows, 0, args);
  load_tile<T, W, kKeys>(values, value_rows, 0, args);
  async_commit();
  async_wait<1>();
  __syncthreads();
  leave_dots<T, W>(args, unit.head, query, douts, outs, dots);

  QueriesWarp<T, W, kDropout> warp(args, unit.head, query, queries, douts);
  const int end = min(args.length, query + kQueries);
  for (int key = 0; key < end; key += kKeys) {
    const int half = key / kKeys % 2 * kKeys * W;
    async_wait<0>();
    __syncthreads();
    if (key + kKeys < end) {
      load_tile<T, W, kKeys>(keys + kKeys * W - half, key_rows, key + kKeys, args);
      load_tile<T, W, kKeys>(values + kKeys * W - half, value_rows, key + kKeys, args);
      async_commit();
    }
    if (key == 0) warp.begin(args, unit.head, dots);
    if (warp.sees(key)) warp.add_tile(keys + half, values + half, key);
  }
  warp.finish(args, unit.head, queries);
}

template <class T, int W>
void launch_width(const AttentionArgs& args, Stream stream) {
  const Shape shape{dim3(attention_blocks(args, kQueries)), dim3(kTileThreads),
                    static_cast<unsigned>((2 * kQueries + 4 * kKeys) * W * sizeof(T))};
  launch(args.dropout ? attention_backward_queries_kernel<T, W, true>
                      : attention_backward_queries_kernel<T, W, false>,
         shape, stream, args);
}

}  // namespace

template <class T>
void attention_backward_queries(const AttentionArgs& args, Stream stream) {
  if (args.width <= 32) return launch_width<T, 32>(args, stream);
  if (args.width <= 64) return launch_width<T, 64>(args, stream);
  launch_width<T, 128>(args, stream);
}

template void attention_backward_queries<Half>(const AttentionArgs&, Stream);
template void attention_backward_queries<BFloat16>(const AttentionArgs&, Stream);

}  // namespace weft::kernels::cuda
