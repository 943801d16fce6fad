// Sixteen bytes at a time: an aligned array of N elements that device code loads, computes on and
// stores as one access.
#pragma once

#include <cstdint>

#include "kernels/base/half.h"

namespace weft::kernels::cuda {

inline constexpr int kAccessBytes = 16;  // the widest access of one thread

// N is a power of two. Aligned to its size, at most to 16 bytes; larger packs are several accesses.
template <class T, int N>
struct alignas(sizeof(T) * N < kAccessBytes ? sizeof(T) * N : kAccessBytes) Pack {
  static_assert((N & (N - 1)) == 0, "a power of two");
  static constexpr int kSize = N;
  using Element = T;

  T values[N];

  WEFT_HD constexpr T& operator[](int i) { return values[i]; }
  WEFT_HD constexpr const T& operator[](int i) const { return values[i]; }
};

// Elements of T in one access: Pack<T, kWidth<T>> is 16 bytes.
template <class T>
inline constexpr int kWidth = kAccessBytes / static_cast<int>(sizeof(T));
template <class T>
using FullPack = Pack<T, kWidth<T>>;

// Whether a pack may be loaded from, or stored to, this address.
template <class P>
WEFT_HD inline bool aligned_for(const void* address) {
  return reinterpret_cast<std::uintptr_t>(address) % alignof(P) == 0;
}

// Elements from `address` to the next multiple of `bytes` (a multiple of sizeof(T)), T being
// aligned to itself.
template <class T>
WEFT_HD inline std::int64_t elements_to_alignment(const void* address,
                                                  unsigned bytes = kAccessBytes) {
  const auto past = reinterpret_cast<std::uintptr_t>(address) % bytes;
  return past == 0 ? 0 : static_cast<std::int64_t>((bytes - past) / sizeof(T));
}

}  // namespace weft::kernels::cuda
