// What device code needs beyond the basics of CUDA C++: conversions, warps, tensor cores, copies to
// shared memory, accesses with a cache hint or an order. Found as "hardware.cuh" by nvcc here; the
// C++ compiler finds tests/emulator/include/hardware.cuh, which has the same names.
//
// Instructions as the PTX ISA (version 8 and later) documents them; all exist on sm_80.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/base/half.h"
#include "kernels/cuda/pack.cuh"

#define WEFT_DEVICE __device__ __forceinline__

namespace weft::kernels::cuda {

inline constexpr unsigned kAllLanes = 0xffffffffu;

// The launch's dynamic shared memory, aligned to 128 bytes; every T names the same bytes.
template <class T>
WEFT_DEVICE T* dynamic_shared() {
  extern __shared__ __align__(128) unsigned char weft_dynamic_shared[];
  return reinterpret_cast<T*>(weft_dynamic_shared);
}

// ---- conversions: round to nearest even; a NaN becomes some NaN

WEFT_DEVICE float to_float(float value) { return value; }
WEFT_DEVICE float to_float(double value) { return static_cast<float>(value); }
WEFT_DEVICE float to_float(Half value) {
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
  return result;
}
WEFT_DEVICE float to_float(BFloat16 value) {
  return __uint_as_float(static_cast<std::uint32_t>(value.bits) << 16);
}

// to<Half>(1.5f): also from double by way of float.
template <class T>
WEFT_DEVICE T to(float value) {
  return static_cast<T>(value);
}
template <>
WEFT_DEVICE Half to<Half>(float value) {
  Half result;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
  return result;
}
template <>
WEFT_DEVICE BFloat16 to<BFloat16>(float value) {
  BFloat16 result;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
  return result;
}

// Two at a time: `low` at the lower address of the 32 bits.
template <class T>
WEFT_DEVICE std::uint32_t pack_two(float low, float high);
template <>
WEFT_DEVICE std::uint32_t pack_two<Half>(float low, float high) {
  std::uint32_t result;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
  return result;
}
template <>
WEFT_DEVICE std::uint32_t pack_two<BFloat16>(float low, float high) {
  std::uint32_t result;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
  return result;
}
template <class T>
WEFT_DEVICE float2 unpack_two(std::uint32_t two) {
  T low, high;
  low.bits = static_cast<std::uint16_t>(two);
  high.bits = static_cast<std::uint16_t>(two >> 16);
  return make_float2(to_float(low), to_float(high));
}
// The 32 bits of a float as tensor cores take TF32: 10 bits of mantissa, to nearest, ties away.
WEFT_DEVICE std::uint32_t to_tf32(float value) {
  std::uint32_t result;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(result) : "f"(value));
  return result;
}

// ---- warps; T has 4 or 8 bytes, and all 32 lanes take part unless `lanes` says which

template <class T>
WEFT_DEVICE T warp_shuffle_xor(T value, int lane_mask, unsigned lanes = kAllLanes) {
  return __shfl_xor_sync(lanes, value, lane_mask);
}
template <class T>
WEFT_DEVICE T warp_shuffle_down(T value, unsigned delta, unsigned lanes = kAllLanes) {
  return __shfl_down_sync(lanes, value, delta);
}
template <class T>
WEFT_DEVICE T warp_shuffle_idx(T value, int lane, unsigned lanes = kAllLanes) {
  return __shfl_sync(lanes, value, lane);
}
WEFT_DEVICE unsigned warp_ballot(bool value, unsigned lanes = kAllLanes) {
  return __ballot_sync(lanes, value);
}

// Over the 32 lanes, the same bits in each: a butterfly, 16 lanes apart first.
template <class T>
WEFT_DEVICE T warp_sum(T value) {
#pragma unroll
  for (int apart = 16; apart > 0; apart /= 2) value += warp_shuffle_xor(value, apart);
  return value;
}
template <class T>
WEFT_DEVICE T warp_max(T value) {
#pragma unroll
  for (int apart = 16; apart > 0; apart /= 2) {
    const T other = warp_shuffle_xor(value, apart);
    value = other > value ? other : value;
  }
  return value;
}

// ---- memory

// Read once and not again soon: load_streaming<FullPack<float>>(pointer). P has 1, 2, 4, 8 or a
// multiple of 16 bytes and lies aligned to that (16 at most).
template <class P>
WEFT_DEVICE P load_streaming(const void* from) {
  P result;
  if constexpr (sizeof(P) % 16 == 0) {
    auto* const words = reinterpret_cast<uint4*>(&result);
#pragma unroll
    for (int i = 0; i < static_cast<int>(sizeof(P) / 16); ++i) {
      words[i] = __ldcs(static_cast<const uint4*>(from) + i);
    }
  } else if constexpr (sizeof(P) == 8) {
    *reinterpret_cast<uint2*>(&result) = __ldcs(static_cast<const uint2*>(from));
  } else if constexpr (sizeof(P) == 4) {
    *reinterpret_cast<unsigned*>(&result) = __ldcs(static_cast<const unsigned*>(from));
  } else if constexpr (sizeof(P) == 2) {
    *reinterpret_cast<unsigned short*>(&result) = __ldcs(static_cast<const unsigned short*>(from));
  } else {
    static_assert(sizeof(P) == 1);
    *reinterpret_cast<unsigned char*>(&result) = __ldcs(static_cast<const unsigned char*>(from));
  }
  return result;
}
template <class P>
WEFT_DEVICE P load_streaming(const P* from) {
  return load_streaming<P>(static_cast<const void*>(from));
}
// Written and not read again soon.
template <class P>
WEFT_DEVICE void store_streaming(void* to, const P& value) {
  if constexpr (sizeof(P) % 16 == 0) {
    const auto* const words = reinterpret_cast<const uint4*>(&value);
#pragma unroll
    for (int i = 0; i < static_cast<int>(sizeof(P) / 16); ++i) {
      __stcs(static_cast<uint4*>(to) + i, words[i]);
    }
  } else if constexpr (sizeof(P) == 8) {
    __stcs(static_cast<uint2*>(to), *reinterpret_cast<const uint2*>(&value));
  } else if constexpr (sizeof(P) == 4) {
    __stcs(static_cast<unsigned*>(to), *reinterpret_cast<const unsigned*>(&value));
  } else if constexpr (sizeof(P) == 2) {
    __stcs(static_cast<unsigned short*>(to), *reinterpret_cast<const unsigned short*>(&value));
  } else {
    static_assert(sizeof(P) == 1);
    __stcs(static_cast<unsigned char*>(to), *reinterpret_cast<const unsigned char*>(&value));
  }
}
// Asks for the cache line of `address` in L2.
WEFT_DEVICE void prefetch(const void* address) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
}

// ---- order between blocks, devices and the host ("system scope")

WEFT_DEVICE std::uint32_t load_acquire_system(const std::uint32_t* address) {
  std::uint32_t value;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(address) : "memory");
  return value;
}
WEFT_DEVICE std::uint64_t load_acquire_system(const std::uint64_t* address) {
  std::uint64_t value;
  asm volatile("ld.acquire.sys.global.u64 %0, [%1];" : "=l"(value) : "l"(address) : "memory");
  return value;
}
WEFT_DEVICE void store_release_system(std::uint32_t* address, std::uint32_t value) {
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(address), "r"(value) : "memory");
}
WEFT_DEVICE void store_release_system(std::uint64_t* address, std::uint64_t value) {
  asm volatile("st.release.sys.global.u64 [%0], %1;" ::"l"(address), "l"(value) : "memory");
}
// One access that no cache answers, for P of 4, 8 or 16 bytes, aligned: a flag beside its data. The
// hardware moves each aligned 8 bytes whole.
template <class P>
WEFT_DEVICE P load_volatile(const void* from) {
  P result;
  if constexpr (sizeof(P) == 16) {
    uint4& v = reinterpret_cast<uint4&>(result);
    asm volatile("ld.volatile.global.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(from)
                 : "memory");
  } else if constexpr (sizeof(P) == 8) {
    asm volatile("ld.volatile.global.u64 %0, [%1];"
                 : "=l"(reinterpret_cast<std::uint64_t&>(result))
                 : "l"(from)
                 : "memory");
  } else {
    static_assert(sizeof(P) == 4);
    asm volatile("ld.volatile.global.u32 %0, [%1];"
                 : "=r"(reinterpret_cast<std::uint32_t&>(result))
                 : "l"(from)
                 : "memory");
  }
  return result;
}
template <class P>
WEFT_DEVICE void store_volatile(void* to, const P& value) {
  if constexpr (sizeof(P) == 16) {
    const uint4& v = reinterpret_cast<const uint4&>(value);
    asm volatile("st.volatile.global.v4.u32 [%0], {%1,%2,%3,%4};" ::"l"(to), "r"(v.x), "r"(v.y),
                 "r"(v.z), "r"(v.w)
                 : "memory");
  } else if constexpr (sizeof(P) == 8) {
    asm volatile("st.volatile.global.u64 [%0], %1;" ::"l"(to),
                 "l"(reinterpret_cast<const std::uint64_t&>(value))
                 : "memory");
  } else {
    static_assert(sizeof(P) == 4);
    asm volatile("st.volatile.global.u32 [%0], %1;" ::"l"(to),
                 "r"(reinterpret_cast<const std::uint32_t&>(value))
                 : "memory");
  }
}
WEFT_DEVICE void fence_system() { __threadfence_system(); }
// Lets others run while waiting for a flag.
WEFT_DEVICE void pause_ns(unsigned ns) { __nanosleep(ns); }
// Nanoseconds, the same clock on every multiprocessor of a device.
WEFT_DEVICE std::uint64_t global_timer() {
  std::uint64_t ns;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
  return ns;
}
WEFT_DEVICE std::uint64_t clock_ns() { return global_timer(); }

// ---- tensor cores. All 32 lanes of a warp take part; lane = 4 * group + t. Fragments as in the
// PTX ISA, "Matrix Fragments for mma.m16n8k16" (and m16n8k8):
//   a: 16 x k, row major. f16/bf16: a[0] = A[group][2t, 2t+1], a[1] = A[group+8][2t, 2t+1],
//      a[2] = A[group][2t+8, 2t+9], a[3] = A[group+8][2t+8, 2t+9]
//   b: k x 8, "column major". b[0] = B[2t, 2t+1][group], b[1] = B[2t+8, 2t+9][group]
//   c, d: 16 x 8. d[0], d[1] = D[group][2t, 2t+1]; d[2], d[3] = D[group+8][2t, 2t+1]
template <class T>
WEFT_DEVICE void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4],
                              const std::uint32_t (&b)[2], const float (&c)[4]);
template <>
WEFT_DEVICE void mma_m16n8k16<Half>(float (&d)[4], const std::uint32_t (&a)[4],
                                    const std::uint32_t (&b)[2], const float (&c)[4]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%10,%11,%12,%13};"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]),
        "f"(c[2]), "f"(c[3]));
}
template <>
WEFT_DEVICE void mma_m16n8k16<BFloat16>(float (&d)[4], const std::uint32_t (&a)[4],
                                        const std::uint32_t (&b)[2], const float (&c)[4]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%10,%11,%12,%13};"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]),
        "f"(c[2]), "f"(c[3]));
}
// TF32: a[0] = A[group][t], a[1] = A[group+8][t], a[2] = A[group][t+4], a[3] = A[group+8][t+4];
// b[0] = B[t][group], b[1] = B[t+4][group]; all from to_tf32().
WEFT_DEVICE void mma_m16n8k8_tf32(float (&d)[4], const std::uint32_t (&a)[4],
                                  const std::uint32_t (&b)[2], const float (&c)[4]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%10,%11,%12,%13};"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]),
        "f"(c[2]), "f"(c[3]));
}
// Four 8 x 8 matrices of 16-bit elements from shared memory: lanes 8i .. 8i+7 give the addresses of
// matrix i's rows (16 bytes each, aligned); this lane gets elements [2t, 2t+1] of row `group` of
// each. With _trans each matrix arrives transposed.
WEFT_DEVICE void ldmatrix_x4(std::uint32_t (&r)[4], const void* shared_row) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared_row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}
WEFT_DEVICE void ldmatrix_x4_trans(std::uint32_t (&r)[4], const void* shared_row) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared_row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

// ---- copies from global to shared memory that go on while the thread computes. Both addresses are
// aligned to 16 bytes. The bytes are there for this thread after async_wait<0>() (async_wait<N>:
// all but the N groups committed last), for the block after __syncthreads() on top.
WEFT_DEVICE void async_copy_16(void* shared, const void* global) {
  const auto to = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global) : "memory");
}
// Zeros instead where `inside` is false; `global` is then not read, but must be a valid pointer.
WEFT_DEVICE void async_copy_16(void* shared, const void* global, bool inside) {
  const auto to = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
  const int bytes = inside ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(bytes)
               : "memory");
}
WEFT_DEVICE void async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N>
WEFT_DEVICE void async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

}  // namespace weft::kernels::cuda
