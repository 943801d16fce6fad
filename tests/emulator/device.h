// What device code sees of its block: indices, barriers, warps, atomics, fences, as CUDA C++ names
// them.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#include "tests/emulator/block.h"
#include "tests/emulator/vectors.h"

extern constinit thread_local uint3 threadIdx;
extern constinit thread_local uint3 blockIdx;
extern constinit thread_local dim3 blockDim;
extern constinit thread_local dim3 gridDim;
inline constexpr int warpSize = 32;

// ---- barriers and fences
inline void __syncthreads() { weft::emulated::sync_threads(0); }
inline int __syncthreads_count(int predicate) {
  return weft::emulated::sync_threads(predicate != 0 ? 1 : 0);
}
inline int __syncthreads_or(int predicate) { return __syncthreads_count(predicate) != 0; }
inline int __syncthreads_and(int predicate) { return __syncthreads_count(predicate == 0) == 0; }
inline void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_system() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __nanosleep(unsigned) { weft::emulated::pause(); }
[[noreturn]] inline void __trap() { weft::emulated::trap("__trap()"); }

// ---- warps
namespace weft::emulated {

template <class T>
std::uint64_t to_lane_bits(T value) {
  static_assert((sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 2) &&
                std::is_trivially_copyable_v<T>);
  std::uint64_t bits = 0;
  __builtin_memcpy(&bits, &value, sizeof value);
  return bits;
}
template <class T>
T from_lane_bits(std::uint64_t bits) {
  T value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace weft::emulated

template <class T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32) {
  const int lane = static_cast<int>(weft::emulated::lane());
  const int source = (lane & ~(width - 1)) | (from & (width - 1));
  return weft::emulated::from_lane_bits<T>(
      weft::emulated::shuffle(mask, weft::emulated::to_lane_bits(value), source));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32) {
  const int lane = static_cast<int>(weft::emulated::lane());
  const int other = lane ^ lane_mask;
  // Lanes of an earlier segment may be read, those of a later one give the own value.
  const int source = other < (lane | (width - 1)) + 1 ? other : lane;
  return weft::emulated::from_lane_bits<T>(
      weft::emulated::shuffle(mask, weft::emulated::to_lane_bits(value), source));
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const int lane = static_cast<int>(weft::emulated::lane());
  const int other = lane + static_cast<int>(delta);
  const int source = other <= (lane | (width - 1)) ? other : lane;
  return weft::emulated::from_lane_bits<T>(
      weft::emulated::shuffle(mask, weft::emulated::to_lane_bits(value), source));
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const int lane = static_cast<int>(weft::emulated::lane());
  const int other = lane - static_cast<int>(delta);
  const int source = other >= (lane & ~(width - 1)) ? other : lane;
  return weft::emulated::from_lane_bits<T>(
      weft::emulated::shuffle(mask, weft::emulated::to_lane_bits(value), source));
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return weft::emulated::ballot(mask, predicate != 0);
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }
inline void __syncwarp(unsigned mask = 0xffffffffu) { weft::emulated::sync_warp(mask); }

// ---- atomics: `operand` and what stood there give what stands there; the _system and _block forms
// differ in scope alone
#define WEFT_EMULATED_ATOMIC(name, expression)                                              \
  template <class T>                                                                        \
  T name(T* address, std::type_identity_t<T> operand) {                                     \
    return weft::emulated::atomic_update(                                                   \
        address, [operand]([[maybe_unused]] T old) { return static_cast<T>(expression); }); \
  }
#define WEFT_EMULATED_ATOMICS(suffix)                                                 \
  WEFT_EMULATED_ATOMIC(atomicExch##suffix, operand)                                   \
  WEFT_EMULATED_ATOMIC(atomicAdd##suffix, old + operand)                              \
  WEFT_EMULATED_ATOMIC(atomicSub##suffix, old - operand)                              \
  WEFT_EMULATED_ATOMIC(atomicMin##suffix, operand < old ? operand : old)              \
  WEFT_EMULATED_ATOMIC(atomicMax##suffix, old < operand ? operand : old)              \
  WEFT_EMULATED_ATOMIC(atomicAnd##suffix, old& operand)                               \
  WEFT_EMULATED_ATOMIC(atomicOr##suffix, old | operand)                               \
  WEFT_EMULATED_ATOMIC(atomicXor##suffix, old ^ operand)                              \
  WEFT_EMULATED_ATOMIC(atomicInc##suffix, old >= operand ? 0 : old + 1)               \
  template <class T>                                                                  \
  T atomicCAS##suffix(T* address, std::type_identity_t<T> expected,                   \
                      std::type_identity_t<T> value) {                                \
    return weft::emulated::atomic_update(                                             \
        address, [expected, value](T old) { return old == expected ? value : old; }); \
  }
WEFT_EMULATED_ATOMICS()
WEFT_EMULATED_ATOMICS(_block)
WEFT_EMULATED_ATOMICS(_system)
#undef WEFT_EMULATED_ATOMICS
#undef WEFT_EMULATED_ATOMIC

// ---- loads and stores with a cache hint
template <class T>
T __ldg(const T* from) {
  return *from;
}
template <class T>
T __ldcs(const T* from) {
  return *from;
}
template <class T>
T __ldcg(const T* from) {
  return *from;
}
template <class T>
T __ldcv(const T* from) {
  return *static_cast<const volatile T*>(from);
}
template <class T>
void __stcs(T* to, T value) {
  *to = value;
}
template <class T>
void __stcg(T* to, T value) {
  *to = value;
}
template <class T>
void __stwt(T* to, T value) {
  *to = value;
}
