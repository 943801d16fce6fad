// The backward of layer normalisation: dx, and the sums dweight and dbias, from one reading of dy
// and x where a row fits a team's registers.
//
//   with n = (x - mean) rstd and g = dy weight:  dx = rstd (g - mean(g) - n mean(g n))
#include "kernels/cuda/checks.h"
#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/layer_norm.h"
#include "kernels/cuda/rows.cuh"

namespace weft::kernels::cuda {
namespace {

constexpr int kWarpsOfBlock = 4;
constexpr int kBlockThreads = 256;

template <class T>
struct Backward {
  using R = ComputeOf<T>;
  std::int64_t rows, columns, block_rows;
  const T *dy, *x, *weight;
  const R *mean, *rstd;
  T* dx;
  R* partials;  // (blocks, 2, columns): dweight's, dbias's; or nullptr

  template <class Visit>
  void pointers(const Visit& visit) const {
    visit(dy);
    visit(x);
    visit(weight);
    visit(mean);
    visit(rstd);
    visit(dx);
    visit(partials);
  }
};

// What one team adds to dweight and dbias in its columns.
template <class R, int kPacks, int N>
struct ParameterSums {
  R weight[kPacks][N] = {}, bias[kPacks][N] = {};
};

template <class T, class Team, int kPacks>
__device__ __forceinline__ void differentiate(
    const Backward<T>& p, const Team& team, std::int64_t r,
    ParameterSums<ComputeOf<T>, kPacks, kWidth<T>>& sums) {
  using R = ComputeOf<T>;
  using Row = RegisterRow<T, Team, kPacks>;
  constexpr int kN = Row::kN;
  const Row dy(p.dy + r * p.columns, p.columns, team);
  const Row x(p.x + r * p.columns, p.columns, team);
  const R mean = p.mean[r], rstd = p.rstd[r];
  R sum = 0, dot = 0;
#pragma unroll
  for (int k = 0; k < kPacks; ++k) {
    if (!dy.has(k)) continue;
    R d[kN], v[kN], weight[kN];
    dy.values(k, d);
    x.values(k, v);
    dy.get(dy.column(k), p.weight, R(1), weight);
#pragma unroll
    for (int i = 0; i < kN; ++i) {
      const R normal = (v[i] - mean) * rstd;
      sums.weight[k][i] += d[i] * normal;
      sums.bias[k][i] += d[i];
      sum += d[i] * weight[i];
      dot += d[i] * weight[i] * normal;
    }
  }
  if (p.dx == nullptr) return;
  const R n = static_cast<R>(p.columns);
  const R mean_g = team.sum(sum) / n, mean_gn = team.sum(dot) / n;
#pragma unroll
  for (int k = 0; k < kPacks; ++k) {
    if (!dy.has(k)) continue;
    R d[kN], v[kN], weight[kN];
    dy.values(k, d);
    x.values(k, v);
    dy.get(dy.column(k), p.weight, R(1), weight);
#pragma unroll
    for (int i = 0; i < kN; ++i) {
      const R normal = (v[i] - mean) * rstd;
      d[i] = rstd * (d[i] * weight[i] - mean_g - normal * mean_gn);
    }
    dy.put(dy.column(k), p.dx + r * p.columns, d);
  }
}

// A block's warps take its rows in turn; their sums meet in shared memory, warp by warp.
template <class T, int kPacks>
__global__ void __launch_bounds__(kWarpsOfBlock * 32) backward_by_warps(Backward<T> p) {
  using R = ComputeOf<T>;
  constexpr int kN = kWidth<T>;
  const WarpTeam team;
  const int warp = static_cast<int>(threadIdx.x / kWarp);
  ParameterSums<R, kPacks, kN> sums;
  const std::int64_t begin = blockIdx.x * p.block_rows;
  const std::int64_t end = min(begin + p.block_rows, p.rows);
  for (std::int64_t r = begin + warp; r < end; r += kWarpsOfBlock) {
    differentiate<T, WarpTeam, kPacks>(p, team, r, sums);
  }
  if (p.partials == nullptr) return;
  R* const of_weight = dynamic_shared<R>();
  R* const of_bias = of_weight + p.columns;
  for (int w = 0; w < kWarpsOfBlock; ++w) {
    if (w > 0) __syncthreads();
    if (warp != w) continue;
#pragma unroll
    for (int k = 0; k < kPacks; ++k) {
      const int column = (k * kWarp + team.rank()) * kN;
      if (column >= p.columns) continue;
#pragma unroll
      for (int i = 0; i < kN; ++i) {
        of_weight[column + i] = (w > 0 ? of_weight[column + i] : R(0)) + sums.weight[k][i];
        of_bias[column + i] = (w > 0 ? of_bias[column + i] : R(0)) + sums.bias[k][i];
      }
    }
  }
  __syncthreads();
  R* const partial = p.partials + blockIdx.x * 2 * p.columns;
  for (std::int64_t i = threadIdx.x; i < 2 * p.columns; i += blockDim.x) partial[i] = of_weight[i];
}

// A block takes its rows one after the other; each thread has columns of its own.
template <class T, int kPacks>
__global__ void __launch_bounds__(kBlockThreads) backward_by_blocks(Backward<T> p) {
  using R = ComputeOf<T>;
  constexpr int kN = kWidth<T>;
  __shared__ double slots[kWarpsMax];
  const BlockTeam team{slots};
  ParameterSums<R, kPacks, kN> sums;
  const std::int64_t begin = blockIdx.x * p.block_rows;
  const std::int64_t end = min(begin + p.block_rows, p.rows);
  for (std::int64_t r = begin; r < end; ++r) {
    differentiate<T, BlockTeam, kPacks>(p, team, r, sums);
  }
  if (p.partials == nullptr) return;
  R* const partial = p.partials + blockIdx.x * 2 * p.columns;
#pragma unroll
  for (int k = 0; k < kPacks; ++k) {
    const int column = (k * kBlockThreads + team.rank()) * kN;
    if (column >= p.columns) continue;
#pragma unroll
    for (int i = 0; i < kN; ++i) {
      partial[column + i] = sums.weight[k][i];
      partial[p.columns + column + i] = sums.bias[k][i];
    }
  }
}

// dx alone, for rows of any length and alignment.
template <class T>
__global__ void __launch_bounds__(1024) backward_of_long_rows(Backward<T> p, bool held) {
  using R = ComputeOf<T>;
  using Row = LongRow<T>;
  __shared__ double slots[kWarpsMax];
  const BlockTeam team{slots};
  for (std::int64_t r = blockIdx.x; r < p.rows; r += gridDim.x) {
    Row row(p.dy + r * p.columns, p.columns, held ? dynamic_shared<FullPack<T>>() : nullptr);
    const T* const x = p.x + r * p.columns;
    const R mean = p.mean[r], rstd = p.rstd[r];
    R sum = 0, dot = 0;
    row.each(R(0), [&](auto chunk, const R(&dy)[Row::kN]) {
      R v[Row::kN], weight[Row::kN];
      row.get(chunk, x, mean, v);
      row.get(chunk, p.weight, R(1), weight);
#pragma unroll
      for (int i = 0; i < Row::kN; ++i) {
        sum += dy[i] * weight[i];
        dot += dy[i] * weight[i] * ((v[i] - mean) * rstd);
      }
    });
    const R n = static_cast<R>(p.columns);
    const R mean_g = team.sum(sum) / n, mean_gn = team.sum(dot) / n;
    row.each(R(0), [&](auto chunk, const R(&dy)[Row::kN]) {
      R v[Row::kN], weight[Row::kN];
      row.get(chunk, x, mean, v);
      row.get(chunk, p.weight, R(1), weight);
#pragma unroll
      for (int i = 0; i < Row::kN; ++i) {
        v[i] = rstd * (dy[i] * weight[i] - mean_g - (v[i] - mean) * rstd * mean_gn);
      }
      row.put(chunk, p.dx + r * p.columns, v);
    });
  }
}

// dweight and dbias alone.
template <class T>
struct ParameterSource {
  Backward<T> p;
  template <class Visit>
  void pointers(const Visit& visit) const {
    p.pointers(visit);
  }
  template <int N>
  __device__ void add(std::int64_t, std::int64_t row, std::int64_t column,
                      ComputeOf<T> (&sums)[2][N]) const {
    using R = ComputeOf<T>;
    const std::int64_t at = row * p.columns + column;
    R dy[N], x[N];
    widen(load_pack<Pack<T, N>>(p.dy + at), dy);
    widen(load_pack<Pack<T, N>>(p.x + at), x);
    const R mean = p.mean[row], rstd = p.rstd[row];
#pragma unroll
    for (int i = 0; i < N; ++i) {
      sums[0][i] += dy[i] * ((x[i] - mean) * rstd);
      sums[1][i] += dy[i];
    }
  }
};

// Rows in fixed blocks, by their number alone.
template <class T, class Kernel>
void in_registers(Backward<T> p, T* const (&out)[2], Kernel kernel, unsigned threads,
                  bool shared_sums, std::int64_t blocks_max, Stream stream) {
  using R = ComputeOf<T>;
  constexpr std::int64_t kRowsMin = 8;
  p.block_rows = std::max<std::int64_t>(kRowsMin, (p.rows + blocks_max - 1) / blocks_max);
  const std::int64_t blocks = (p.rows + p.block_rows - 1) / p.block_rows;
  const std::int64_t sums_bytes = 2 * p.columns * static_cast<std::int64_t>(sizeof(R));
  const bool parameters = out[0] != nullptr || out[1] != nullptr;
  const Scratch scratch(Bytes(parameters ? blocks * sums_bytes : 0), stream);
  p.partials = static_cast<R*>(scratch.data());
  launch(kernel,
         Shape{static_cast<unsigned>(blocks), threads,
               parameters && shared_sums ? static_cast<unsigned>(sums_bytes) : 0},
         stream, p);
  if (parameters) {
    launch_fold_columns(
        1, blocks, p.columns,
        ColumnTarget<T, R, 2>{{out[0], out[1]}, R(1), static_cast<R*>(scratch.data())}, stream);
  }
}

template <class T>
void from_memory(const Backward<T>& p, T* const (&out)[2], bool whole, Stream stream) {
  using R = ComputeOf<T>;
  if (out[0] != nullptr || out[1] != nullptr) {  // before dx, which may be dy
    if (whole) {
      launch_column_sums<kWidth<T>>(ColumnGrid(1, p.rows, p.columns, kWidth<T>),
                                    ParameterSource<T>{p}, out, R(1), stream);
    } else {
      launch_column_sums<1>(ColumnGrid(1, p.rows, p.columns, 1), ParameterSource<T>{p}, out, R(1),
                            stream);
    }
  }
  if (p.dx == nullptr || p.rows == 0) return;
  const LongRows shape = long_rows<T>(p.columns, true);
  launch(backward_of_long_rows<T>,
         Shape{grid_for(p.rows, 1, kRowBlocksMax), shape.threads, shape.shared_bytes}, stream, p,
         shape.shared_bytes > 0);
}

template <class T>
void backward(const LayerNormBackward& problem, Stream stream) {
  using R = ComputeOf<T>;
  const Backward<T> p{problem.rows,
                      problem.columns,
                      0,
                      static_cast<const T*>(problem.dy),
                      static_cast<const T*>(problem.x),
                      static_cast<const T*>(problem.weight),
                      static_cast<const R*>(problem.mean),
                      static_cast<const R*>(problem.rstd),
                      static_cast<T*>(problem.dx),
                      nullptr};
  T* const out[2] = {static_cast<T*>(problem.dweight), static_cast<T*>(problem.dbias)};
  const bool whole = are_whole_packs<T>(p.columns, {p.dy, p.x, p.weight, p.dx});
  const std::int64_t packs = p.columns / kWidth<T>;
  if (!whole || packs > 4 * kBlockThreads || p.rows == 0) {
    from_memory(p, out, whole, stream);
  } else if (packs <= 4 * 32) {
    in_registers(p, out, backward_by_warps<T, 4>, kWarpsOfBlock * 32, true, 396, stream);
  } else if (packs <= kBlockThreads) {
    in_registers(p, out, backward_by_blocks<T, 1>, kBlockThreads, false, 396, stream);
  } else {
    in_registers(p, out, backward_by_blocks<T, 4>, kBlockThreads, false, 264, stream);
  }
}

}  // namespace

void layer_norm_backward(const LayerNormBackward& problem, Stream stream) {
  dispatch_floating(problem.dtype, "layer_norm", [&]<class T>() { backward<T>(problem, stream); });
}

}  // namespace weft::kernels::cuda
