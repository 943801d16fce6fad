// Threads that share a row: a warp, or a whole block. Sums are taken in a fixed order, and every
// thread of the team gets the same bits.
#pragma once

#include "hardware.cuh"
#include "kernels/cuda/launch.cuh"

namespace weft::kernels::cuda {

// A warp of a block that holds several.
struct WarpTeam {
  static constexpr int kSize = 32;
  __device__ int rank() const { return static_cast<int>(threadIdx.x % kWarp); }
  __device__ int size() const { return kSize; }
  template <class R>
  __device__ R sum(R value) const {
    return warp_sum(value);
  }
  template <class R>
  __device__ R max(R value) const {
    return warp_max(value);
  }
};

// A block of one dimension and whole warps. `slots` is shared: 8 bytes for each warp.
struct BlockTeam {
  double* slots;

  __device__ int rank() const { return static_cast<int>(threadIdx.x); }
  __device__ int size() const { return static_cast<int>(blockDim.x); }
  template <class R>
  __device__ R sum(R value) const {
    return across<R>(warp_sum(value), R(0), [](R v) { return warp_sum(v); });
  }
  // `lowest` stands for warps that are not there.
  template <class R>
  __device__ R max(R value) const {
    const R mine = warp_max(value);
    return across<R>(mine, mine, [](R v) { return warp_max(v); });
  }

 private:
  template <class R, class Fold>
  __device__ R across(R of_warp, R absent, Fold fold) const {
    static_assert(sizeof(R) <= sizeof(double));
    auto* const values = reinterpret_cast<R*>(slots);
    const unsigned lane = threadIdx.x % kWarp, warps = blockDim.x / kWarp;
    if (warps == 1) return of_warp;
    __syncthreads();  // what was here before has been read
    if (lane == 0) values[threadIdx.x / kWarp] = of_warp;
    __syncthreads();
    return fold(lane < warps ? values[lane] : absent);
  }
};

inline constexpr int kWarpsMax = 32;

// A BlockTeam shares `slots`; a warp needs none.
template <class Team>
__device__ __forceinline__ Team make_team(double* slots) {
  if constexpr (std::is_same_v<Team, BlockTeam>) {
    return BlockTeam{slots};
  } else {
    return Team{};
  }
}

}  // namespace weft::kernels::cuda
