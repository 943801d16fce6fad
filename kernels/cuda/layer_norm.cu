// Layer normalisation. Rows up to 128 packs (2048 halves, 1024 floats) belong to a warp, longer
// ones to a block.
#include "kernels/cuda/layer_norm.h"

#include "kernels/cuda/checks.h"
#include "kernels/cuda/rows.cuh"

namespace weft::kernels::cuda {
namespace {

constexpr int kWarpsOfBlock = 4;
constexpr int kBlockThreads = 256;

template <class T>
struct Forward {
  using R = ComputeOf<T>;
  std::int64_t rows, columns;
  R epsilon;
  const T *x, *weight, *bias;
  T* y;
  R *mean, *rstd;

  template <class Visit>
  void pointers(const Visit& visit) const {
    visit(x);
    visit(weight);
    visit(bias);
    visit(y);
    visit(mean);
    visit(rstd);
  }
};

template <class T, class Row, class Team>
__device__ __forceinline__ void normalise(const Forward<T>& p, Row& row, const Team& team,
                                          std::int64_t r) {
  using R = ComputeOf<T>;
  const R n = static_cast<R>(p.columns);
  R sum = 0;
  row.each(R(0), [&](auto, const R(&x)[Row::kN]) {
#pragma unroll
    for (int i = 0; i < Row::kN; ++i) sum += x[i];
  });
  const R mean = team.sum(sum) / n;
  R squares = 0;
  row.each(mean, [&](auto, const R(&x)[Row::kN]) {
#pragma unroll
    for (int i = 0; i < Row::kN; ++i) squares += (x[i] - mean) * (x[i] - mean);
  });
  const R rstd = R(1) / std::sqrt(team.sum(squares) / n + p.epsilon);
  if (team.rank() == 0) {
    p.mean[r] = mean;
    p.rstd[r] = rstd;
  }
  T* const y = p.y + r * p.columns;
  row.each(R(0), [&](auto chunk, const R(&x)[Row::kN]) {
    R weight[Row::kN], bias[Row::kN], out[Row::kN];
    row.get(chunk, p.weight, R(1), weight);
    row.get(chunk, p.bias, R(0), bias);
#pragma unroll
    for (int i = 0; i < Row::kN; ++i) out[i] = (x[i] - mean) * rstd * weight[i] + bias[i];
    row.put(chunk, y, out);
  });
}

template <class T, int kPacks>
__global__ void __launch_bounds__(kWarpsOfBlock * 32) forward_by_warps(Forward<T> p) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kWarpsOfBlock;
  const WarpTeam team;
  for (std::int64_t r = blockIdx.x * static_cast<std::int64_t>(kWarpsOfBlock) + threadIdx.x / kWarp;
       r < p.rows; r += step) {
    RegisterRow<T, WarpTeam, kPacks> row(p.x + r * p.columns, p.columns, team);
    normalise(p, row, team, r);
  }
}

template <class T>
__global__ void __launch_bounds__(kBlockThreads) forward_by_blocks(Forward<T> p) {
  __shared__ double slots[kWarpsMax];
  const BlockTeam team{slots};
  for (std::int64_t r = blockIdx.x; r < p.rows; r += gridDim.x) {
    RegisterRow<T, BlockTeam, 4> row(p.x + r * p.columns, p.columns, team);
    normalise(p, row, team, r);
  }
}

template <class T>
__global__ void __launch_bounds__(1024) forward_of_long_rows(Forward<T> p, bool held) {
  __shared__ double slots[kWarpsMax];
  const BlockTeam team{slots};
  for (std::int64_t r = blockIdx.x; r < p.rows; r += gridDim.x) {
    LongRow<T> row(p.x + r * p.columns, p.columns, held ? dynamic_shared<FullPack<T>>() : nullptr);
    normalise(p, row, team, r);
  }
}

template <class T>
void forward(const LayerNorm& problem, Stream stream) {
  const Forward<T> p{problem.rows,
                     problem.columns,
                     static_cast<ComputeOf<T>>(problem.epsilon),
                     static_cast<const T*>(problem.x),
                     static_cast<const T*>(problem.weight),
                     static_cast<const T*>(problem.bias),
                     static_cast<T*>(problem.y),
                     static_cast<ComputeOf<T>*>(problem.mean),
                     static_cast<ComputeOf<T>*>(problem.rstd)};
  const bool whole = are_whole_packs<T>(p.columns, {p.x, p.weight, p.bias, p.y});
  const std::int64_t packs = p.columns / kWidth<T>;
  const auto by_warps = [&](auto kernel) {
    launch(kernel, Shape{grid_for(p.rows, kWarpsOfBlock, kRowBlocksMax), kWarpsOfBlock * 32},
           stream, p);
  };
  if (whole && packs <= 4 * 32) {
    by_warps(forward_by_warps<T, 4>);
  } else if (whole && packs <= 8 * 32) {
    by_warps(forward_by_warps<T, 8>);
  } else if (whole && packs <= 4 * kBlockThreads) {
    launch(forward_by_blocks<T>, Shape{grid_for(p.rows, 1, kRowBlocksMax), kBlockThreads}, stream,
           p);
  } else {
    const LongRows shape = long_rows<T>(p.columns, true);
    launch(forward_of_long_rows<T>,
           Shape{grid_for(p.rows, 1, kRowBlocksMax), shape.threads, shape.shared_bytes}, stream, p,
           shape.shared_bytes > 0);
  }
}

}  // namespace

void layer_norm(const LayerNorm& problem, Stream stream) {
  dispatch_floating(problem.dtype, "layer_norm", [&]<class T>() {
    if (problem.rows > 0) forward<T>(problem, stream);
  });
}

}  // namespace weft::kernels::cuda
