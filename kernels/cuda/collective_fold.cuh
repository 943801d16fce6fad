// One move of a lane: every target = sources[0] op sources[1] op ..., in one pass over memory. The
// arithmetic is that of kernels::reduce. All threads of the block call it alike.
#pragma once

#include "kernels/cuda/collective.h"
#include "kernels/cuda/pack.cuh"
#include "kernels/functors/reduce.h"

#include "hardware.cuh"

namespace weft::kernels::cuda::collective {

// Places of a move, in shared memory: sources, then targets.
struct Move {
  std::byte* const* places;
  int sources;
  int targets;
};

template <class T>
__device__ inline ReduceCompute<T> widened(T value) {
  if constexpr (std::is_same_v<T, ReduceCompute<T>>) {
    return value;
  } else {
    return to_float(value);
  }
}

template <class T>
__device__ inline T narrowed(ReduceCompute<T> value) {
  if constexpr (std::is_same_v<T, ReduceCompute<T>>) {
    return value;
  } else {
    return to<T>(value);
  }
}

struct Keep {
  template <class C>
  __device__ C operator()(C sum) const {
    return sum;
  }
};

inline constexpr int kWide = 4;  // accesses in flight, of each source
// The same in folds, whose elements take a register each.
template <class T>
inline constexpr int kFoldWide = sizeof(T) == 1   ? 1
                                 : sizeof(T) == 2 ? 2
                                                  : kWide;

// [0, packs) packs of 16 bytes, all places aligned to that.
template <class T, ReduceOp kOp, class Finish>
__device__ inline void fold_packs(const Move& move, std::uint64_t offset, std::uint64_t packs,
                                  Finish finish) {
  constexpr int kPer = 16 / static_cast<int>(sizeof(T));
  using P = Pack<T, kPer>;
  constexpr int kDeep = kFoldWide<T>;
  using C = ReduceCompute<T>;
  const auto at = [&](int place) { return reinterpret_cast<P*>(move.places[place] + offset); };
  const std::uint64_t step = blockDim.x;
  for (std::uint64_t i = threadIdx.x; i < packs; i += kDeep * step) {
    C sums[kDeep][kPer];
    P next[kDeep];
#pragma unroll
    for (int w = 0; w < kDeep; ++w) {
      if (i + w * step < packs) next[w] = at(0)[i + w * step];
    }
#pragma unroll
    for (int w = 0; w < kDeep; ++w) {
#pragma unroll
      for (int e = 0; e < kPer; ++e) sums[w][e] = widened(next[w].values[e]);
    }
    for (int k = 1; k < move.sources; ++k) {
#pragma unroll
      for (int w = 0; w < kDeep; ++w) {
        if (i + w * step < packs) next[w] = at(k)[i + w * step];
      }
#pragma unroll
      for (int w = 0; w < kDeep; ++w) {
#pragma unroll
        for (int e = 0; e < kPer; ++e) {
          sums[w][e] = reduce_pair<kOp>(sums[w][e], widened(next[w].values[e]));
        }
      }
    }
#pragma unroll
    for (int w = 0; w < kDeep; ++w) {
#pragma unroll
      for (int e = 0; e < kPer; ++e) next[w].values[e] = narrowed<T>(finish(sums[w][e]));
    }
    for (int k = 0; k < move.targets; ++k) {
#pragma unroll
      for (int w = 0; w < kDeep; ++w) {
        if (i + w * step < packs) at(move.sources + k)[i + w * step] = next[w];
      }
    }
  }
}

// [begin, end) elements, each for itself.
template <class T, ReduceOp kOp, class Finish>
__device__ inline void fold_elements(const Move& move, std::uint64_t begin, std::uint64_t end,
                                     Finish finish) {
  using C = ReduceCompute<T>;
  const auto at = [&](int place) { return reinterpret_cast<T*>(move.places[place]); };
  for (std::uint64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
    C sum = widened(at(0)[i]);
    for (int k = 1; k < move.sources; ++k) sum = reduce_pair<kOp>(sum, widened(at(k)[i]));
    const T value = narrowed<T>(finish(sum));
    for (int k = 0; k < move.targets; ++k) at(move.sources + k)[i] = value;
  }
}

// Elements before the first of which all places are aligned to 16 bytes; `count` if there is none.
template <class T>
__device__ inline std::uint64_t unaligned_head(const Move& move, std::uint64_t count) {
  const auto first = reinterpret_cast<std::uintptr_t>(move.places[0]) % 16;
  for (int k = 1; k < move.sources + move.targets; ++k) {
    if (reinterpret_cast<std::uintptr_t>(move.places[k]) % 16 != first) return count;
  }
  const std::uint64_t bytes = (16 - first) % 16;
  if (bytes % sizeof(T) != 0) return count;
  return bytes / sizeof(T) < count ? bytes / sizeof(T) : count;
}

template <class T, ReduceOp kOp, class Finish>
__device__ inline void fold(const Move& move, std::uint64_t count, Finish finish) {
  constexpr std::uint64_t kPer = 16 / sizeof(T);
  const std::uint64_t head = unaligned_head<T>(move, count);
  const std::uint64_t packs = (count - head) / kPer;
  if (packs > 0) fold_packs<T, kOp>(move, head * sizeof(T), packs, finish);
  fold_elements<T, kOp>(move, 0, head, finish);
  fold_elements<T, kOp>(move, head + packs * kPer, count, finish);
}

template <class T>
__device__ inline void copy_as(const Move& move, std::uint64_t bytes) {
  const std::uint64_t count = bytes / sizeof(T);
  const T* const from = reinterpret_cast<const T*>(move.places[0]);
  const std::uint64_t step = blockDim.x;
  for (std::uint64_t i = threadIdx.x; i < count; i += kWide * step) {
    T values[kWide];
#pragma unroll
    for (int w = 0; w < kWide; ++w) {
      if (i + w * step < count) values[w] = from[i + w * step];
    }
    for (int k = 0; k < move.targets; ++k) {
      T* const to = reinterpret_cast<T*>(move.places[1 + k]);
#pragma unroll
      for (int w = 0; w < kWide; ++w) {
        if (i + w * step < count) to[i + w * step] = values[w];
      }
    }
  }
}

// As bits, in the widest type that the alignment of all places and the length allow; what is left
// of 16 bytes goes byte by byte.
__device__ inline void copy(const Move& move, std::uint64_t bytes) {
  std::uintptr_t bits = 0;
  for (int k = 0; k < 1 + move.targets; ++k) {
    bits |= reinterpret_cast<std::uintptr_t>(move.places[k]);
  }
  const std::uint64_t whole = bytes / 16 * 16;
  if (bits % 16 == 0) {
    copy_as<uint4>(move, whole);
  } else if (bits % 8 == 0) {
    copy_as<std::uint64_t>(move, whole);
  } else if (bits % 4 == 0) {
    copy_as<std::uint32_t>(move, whole);
  } else if (bits % 2 == 0) {
    copy_as<std::uint16_t>(move, whole);
  } else {
    copy_as<std::uint8_t>(move, whole);
  }
  for (std::uint64_t i = whole + threadIdx.x; i < bytes; i += blockDim.x) {
    const std::byte value = move.places[0][i];
    for (int k = 0; k < move.targets; ++k) move.places[1 + k][i] = value;
  }
}

// `divides`: of avg, a value that holds every member's contribution.
template <class T>
__device__ inline void move_elements(const Move& move, std::uint64_t count, ReduceOp op,
                                     bool divides, int divisor) {
  if (move.sources == 1 && !divides) return copy(move, count * sizeof(T));
  switch (op) {
    case ReduceOp::sum:
      return fold<T, ReduceOp::sum>(move, count, Keep());
    case ReduceOp::prod:
      return fold<T, ReduceOp::prod>(move, count, Keep());
    case ReduceOp::min:
      return fold<T, ReduceOp::min>(move, count, Keep());
    case ReduceOp::max:
      return fold<T, ReduceOp::max>(move, count, Keep());
    case ReduceOp::avg:
      if (!divides) return fold<T, ReduceOp::sum>(move, count, Keep());
      return fold<T, ReduceOp::sum>(move, count, Mean<ReduceCompute<T>>(divisor));
  }
}

}  // namespace weft::kernels::cuda::collective
