// The element-wise kernel: each thread takes a few packs of every operand, all loads first.
#pragma once

#include "kernels/cuda/access.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/walk.h"

namespace weft::kernels::cuda {

inline constexpr int kMapThreads = 256;
inline constexpr int kMapUnroll = 2;

template <class Out, class In, int kInputs>
struct MapOperands {
  Out* out = nullptr;
  const In* in[kInputs == 0 ? 1 : kInputs] = {};

  template <class Visit>
  void pointers(const Visit& visit) const {
    visit(out);
    for (const In* input : in) visit(input);
  }
};

// A pack, of which elements first .. first + N - 1 of `size` are wanted; those that are not inside
// are left alone.
template <class T, int N>
__device__ __forceinline__ void map_load(Pack<T, N>& pack, const T* from, bool repeats,
                                         std::int64_t first, std::int64_t size) {
  if (repeats) {
    const T value = *from;
#pragma unroll
    for (int i = 0; i < N; ++i) pack[i] = value;
  } else if (first >= 0 && first + N <= size) {
    pack = load_pack<Pack<T, N>>(from);
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      if (first + i >= 0 && first + i < size) pack[i] = from[i];
    }
  }
}

template <class T, int N>
__device__ __forceinline__ void map_store(const Pack<T, N>& pack, T* to, std::int64_t first,
                                          std::int64_t size) {
  if (first >= 0 && first + N <= size) {
    store_pack(to, pack);
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      if (first + i >= 0 && first + i < size) to[i] = pack[i];
    }
  }
}

// out = body(in...), through body(Pack<Out, N>& y, const Pack<In, N>* x).
template <int N, int kInputs, class Body, class Out, class In>
__global__ void __launch_bounds__(kMapThreads)
    map_kernel(Walk<1 + kInputs> walk, MapOperands<Out, In, kInputs> operands, Body body) {
  const std::int64_t start =
      static_cast<std::int64_t>(blockIdx.x) * (kMapThreads * kMapUnroll) + threadIdx.x;
  std::int64_t at[kMapUnroll][1 + kInputs];
  Pack<In, N> x[kMapUnroll][kInputs == 0 ? 1 : kInputs] = {};
#pragma unroll
  for (int u = 0; u < kMapUnroll; ++u) {
    const std::int64_t pack = start + u * kMapThreads;
    if (pack >= walk.packs) continue;
    walk.offsets(pack, N, at[u]);
#pragma unroll
    for (int k = 0; k < kInputs; ++k) {
      map_load(x[u][k], operands.in[k] + at[u][1 + k], walk.repeats[1 + k], pack * N - walk.skew,
               walk.size);
    }
  }
#pragma unroll
  for (int u = 0; u < kMapUnroll; ++u) {
    const std::int64_t pack = start + u * kMapThreads;
    if (pack >= walk.packs) continue;
    Pack<Out, N> y;
    body(y, x[u]);
    map_store(y, operands.out + at[u][0], pack * N - walk.skew, walk.size);
  }
}

// Queues the kernel over a layout of 1 + kInputs operands, the output first: in packs of N where
// they fit, else element by element. An empty layout does nothing.
template <int N, int kInputs, class Body, class Out, class In>
void launch_map(const strided::Layout& layout, const MapOperands<Out, In, kInputs>& operands,
                const Body& body, Stream stream) {
  if (layout.size == 0) return;
  Place places[1 + kInputs] = {{operands.out, sizeof(Out)}};
  for (int k = 0; k < kInputs; ++k) places[1 + k] = {operands.in[k], sizeof(In)};
  const auto queue = [&](auto kernel, const Walk<1 + kInputs>& walk) {
    constexpr std::int64_t kPacks = kMapThreads * kMapUnroll;
    const auto blocks = static_cast<unsigned>((walk.packs + kPacks - 1) / kPacks);
    launch(kernel, Shape{blocks, kMapThreads}, stream, walk, operands, body);
  };
  if (N > 1 && walks::packs_fit(layout, places, N)) {
    queue(map_kernel<N, kInputs, Body, Out, In>, make_walk<1 + kInputs>(layout, places, N));
  } else {
    queue(map_kernel<1, kInputs, Body, Out, In>, make_walk<1 + kInputs>(layout, places, 1));
  }
}

}  // namespace weft::kernels::cuda
