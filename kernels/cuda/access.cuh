// Packs of elements to and from the type they are computed in, and where accesses of 16 bytes may
// stand in memory of any alignment.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "hardware.cuh"
#include "kernels/base/half.h"
#include "kernels/cuda/pack.cuh"
#include "kernels/functors/math.h"

namespace weft::kernels::cuda {

// What T is computed in: f32 for f32, f16 and bf16; other types themselves.
template <class T>
using ComputeOf = std::conditional_t<sizeof(T) == 2 && !std::is_integral_v<T>, float, T>;

template <class T>
__device__ __forceinline__ ComputeOf<T> widen(T value) {
  if constexpr (std::is_same_v<T, ComputeOf<T>>) {
    return value;
  } else {
    return to_float(value);
  }
}

template <class T>
__device__ __forceinline__ T narrow(ComputeOf<T> value) {
  if constexpr (std::is_same_v<T, ComputeOf<T>>) {
    return value;
  } else {
    return to<T>(value);
  }
}

template <class T, int N>
__device__ __forceinline__ void widen(const Pack<T, N>& from, ComputeOf<T> (&values)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) values[i] = widen(from[i]);
}

template <class T, int N>
__device__ __forceinline__ Pack<T, N> narrow(const ComputeOf<T> (&values)[N]) {
  Pack<T, N> pack;
  if constexpr (sizeof(T) == 2 && !std::is_integral_v<T> && N % 2 == 0) {
    std::uint32_t words[N / 2];
#pragma unroll
    for (int i = 0; i < N; i += 2) words[i / 2] = pack_two<T>(values[i], values[i + 1]);
    memcpy(static_cast<void*>(&pack), words, sizeof pack);
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) pack[i] = narrow<T>(values[i]);
  }
  return pack;
}

// One access each; `from` and `to` are aligned to the pack.
template <class P>
__device__ __forceinline__ P load_pack(const typename P::Element* from) {
  return *reinterpret_cast<const P*>(from);
}

template <class P>
__device__ __forceinline__ void store_pack(typename P::Element* to, const P& pack) {
  *reinterpret_cast<P*>(to) = pack;
}

// Elements by which `address` lies past a multiple of N elements: packs of N that begin that much
// before it are aligned.
template <class T>
WEFT_HD inline int skew_of(const void* address, int n) {
  return static_cast<int>(reinterpret_cast<std::uintptr_t>(address) / sizeof(T) %
                          static_cast<unsigned>(n));
}

}  // namespace weft::kernels::cuda
