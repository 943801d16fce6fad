// kernels/cuda/native/hardware.cuh for the emulator: the same names, in plain C++. Accesses through
// them are checked: an address that is not live memory of a device ends the kernel with an error.
#pragma once

#include <cuda_runtime.h>

#include <chrono>
#include <cstdint>
#include <cstring>

#include "kernels/base/half.h"
#include "kernels/cuda/pack.cuh"
#include "tests/emulator/tensor_cores.h"

#define WEFT_DEVICE inline

namespace weft::kernels::cuda {

inline constexpr unsigned kAllLanes = 0xffffffffu;

template <class T>
T* dynamic_shared() {
  return static_cast<T*>(emulated::dynamic_shared_memory());
}

// ---- conversions

inline float to_float(float value) { return value; }
inline float to_float(double value) { return static_cast<float>(value); }
inline float to_float(Half value) { return static_cast<float>(value); }
inline float to_float(BFloat16 value) { return static_cast<float>(value); }

template <class T>
T to(float value) {
  return static_cast<T>(value);
}

template <class T>
std::uint32_t pack_two(float low, float high) {
  return static_cast<std::uint32_t>(T(low).bits) | static_cast<std::uint32_t>(T(high).bits) << 16;
}
template <class T>
float2 unpack_two(std::uint32_t two) {
  T low, high;
  low.bits = static_cast<std::uint16_t>(two);
  high.bits = static_cast<std::uint16_t>(two >> 16);
  return make_float2(to_float(low), to_float(high));
}
// To nearest, ties away from zero.
inline std::uint32_t to_tf32(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7f800000u) == 0x7f800000u) return bits;  // infinite or NaN
  return (bits + 0x1000u) & ~0x1fffu;
}

// ---- warps

template <class T>
T warp_shuffle_xor(T value, int lane_mask, unsigned lanes = kAllLanes) {
  return __shfl_xor_sync(lanes, value, lane_mask);
}
template <class T>
T warp_shuffle_down(T value, unsigned delta, unsigned lanes = kAllLanes) {
  return __shfl_down_sync(lanes, value, delta);
}
template <class T>
T warp_shuffle_idx(T value, int lane, unsigned lanes = kAllLanes) {
  return __shfl_sync(lanes, value, lane);
}
inline unsigned warp_ballot(bool value, unsigned lanes = kAllLanes) {
  return __ballot_sync(lanes, value);
}

template <class T>
T warp_sum(T value) {
  for (int apart = 16; apart > 0; apart /= 2) value += warp_shuffle_xor(value, apart);
  return value;
}
template <class T>
T warp_max(T value) {
  for (int apart = 16; apart > 0; apart /= 2) {
    const T other = warp_shuffle_xor(value, apart);
    value = other > value ? other : value;
  }
  return value;
}

// ---- memory

template <class P>
P load_streaming(const void* from) {
  emulated::check_aligned(from, sizeof(P) < 16 ? sizeof(P) : 16);
  emulated::check_access(from, sizeof(P));
  P result;
  std::memcpy(&result, from, sizeof result);
  return result;
}
template <class P>
P load_streaming(const P* from) {
  return load_streaming<P>(static_cast<const void*>(from));
}
template <class P>
void store_streaming(void* to, const P& value) {
  emulated::check_aligned(to, sizeof(P) < 16 ? sizeof(P) : 16);
  emulated::check_access(to, sizeof(P));
  std::memcpy(to, &value, sizeof value);
}
inline void prefetch(const void*) {}

// ---- order between blocks, devices and the host

template <class T>
T load_acquire_system(const T* address) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  emulated::check_access(address, sizeof(T));
  emulated::polled();
  return __atomic_load_n(address, __ATOMIC_ACQUIRE);
}
inline void store_release_system(std::uint32_t* address, std::uint32_t value) {
  emulated::check_access(address, sizeof value);
  __atomic_store_n(address, value, __ATOMIC_RELEASE);
}
inline void store_release_system(std::uint64_t* address, std::uint64_t value) {
  emulated::check_access(address, sizeof value);
  __atomic_store_n(address, value, __ATOMIC_RELEASE);
}
// Each aligned 8 bytes whole, in the order of their addresses: what the hardware promises and no
// more.
template <class P>
P load_volatile(const void* from) {
  static_assert(sizeof(P) == 4 || sizeof(P) == 8 || sizeof(P) == 16);
  emulated::check_aligned(from, sizeof(P));
  emulated::check_access(from, sizeof(P));
  emulated::polled();
  P result;
  if constexpr (sizeof(P) == 4) {
    const auto word = __atomic_load_n(static_cast<const std::uint32_t*>(from), __ATOMIC_ACQUIRE);
    std::memcpy(&result, &word, sizeof word);
  } else {
    std::uint64_t words[sizeof(P) / 8];
    for (std::size_t i = 0; i < sizeof(P) / 8; ++i) {
      words[i] = __atomic_load_n(static_cast<const std::uint64_t*>(from) + i, __ATOMIC_ACQUIRE);
    }
    std::memcpy(&result, words, sizeof result);
  }
  return result;
}
template <class P>
void store_volatile(void* to, const P& value) {
  static_assert(sizeof(P) == 4 || sizeof(P) == 8 || sizeof(P) == 16);
  emulated::check_aligned(to, sizeof(P));
  emulated::check_access(to, sizeof(P));
  if constexpr (sizeof(P) == 4) {
    std::uint32_t word;
    std::memcpy(&word, &value, sizeof word);
    __atomic_store_n(static_cast<std::uint32_t*>(to), word, __ATOMIC_RELEASE);
  } else {
    std::uint64_t words[sizeof(P) / 8];
    std::memcpy(words, &value, sizeof words);
    for (std::size_t i = 0; i < sizeof(P) / 8; ++i) {
      __atomic_store_n(static_cast<std::uint64_t*>(to) + i, words[i], __ATOMIC_RELEASE);
    }
  }
}
inline void fence_system() { __threadfence_system(); }
inline void pause_ns(unsigned) { emulated::pause(); }
inline std::uint64_t global_timer() {
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch() /
                                    std::chrono::nanoseconds(1));
}
inline std::uint64_t clock_ns() { return global_timer(); }

// ---- tensor cores: see the native header for what each register holds

template <class T>
void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                  const float (&c)[4]) {
  emulated::mma_16bit<T>(d, a, b, c);
}
inline void mma_m16n8k8_tf32(float (&d)[4], const std::uint32_t (&a)[4],
                             const std::uint32_t (&b)[2], const float (&c)[4]) {
  emulated::mma_tf32(d, a, b, c);
}
inline void ldmatrix_x4(std::uint32_t (&r)[4], const void* shared_row) {
  emulated::load_matrices(r, shared_row, false);
}
inline void ldmatrix_x4_trans(std::uint32_t (&r)[4], const void* shared_row) {
  emulated::load_matrices(r, shared_row, true);
}

// ---- copies that go on: they happen when they are waited for, no earlier

inline void async_copy_16(void* shared, const void* global) {
  emulated::async_copy(shared, global, true);
}
inline void async_copy_16(void* shared, const void* global, bool inside) {
  emulated::async_copy(shared, global, inside);
}
inline void async_commit() { emulated::async_commit(); }
template <int N>
void async_wait() {
  emulated::async_wait(N);
}

}  // namespace weft::kernels::cuda
