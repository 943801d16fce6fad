// How element-wise kernels find their elements: a strided layout (kernels/cpu/strided.h), cut into
// packs that each operand holds side by side, or repeats one element of.
#pragma once

#include <cstdint>

#include "kernels/base/half.h"  // WEFT_HD
#include "kernels/cpu/strided.h"

namespace weft::kernels::cuda {

// n / value for 0 <= n < 2^31 by a product: Granlund, Montgomery, "Division by invariant integers
// using multiplication", 1994.
struct Divisor {
  std::uint32_t value = 1, factor = 0, shift = 0;

  Divisor() = default;
  // 1 <= divisor < 2^31
  explicit Divisor(std::uint32_t divisor) : value(divisor) {
    while ((std::uint64_t{1} << shift) < divisor) ++shift;
    const std::uint64_t power = std::uint64_t{1} << shift;
    factor = static_cast<std::uint32_t>((power - divisor) * (std::uint64_t{1} << 32) / divisor + 1);
  }
  WEFT_HD std::uint32_t quotient(std::uint32_t n) const {
    const auto high = static_cast<std::uint32_t>((std::uint64_t{n} * factor) >> 32);
    return (high + n) >> shift;
  }
};

// Packs of `n` neighbours in linear order. Pack p holds elements p n - skew and on, of which those
// in [0, size) are there: only the first and the last pack of contiguous memory can lack some.
template <int kOperands>
struct Walk {
  std::int64_t size = 0;   // elements
  std::int64_t packs = 0;  // what threads share out
  int skew = 0;
  int dims = 0;                  // innermost first, counting packs in dimension 0; 0: contiguous
  bool narrow = false;           // packs < 2^31: 32-bit divisions
  bool repeats[kOperands] = {};  // a pack is one element
  Divisor divisors[kDimsMax];
  std::int64_t shape[kDimsMax] = {};
  std::int64_t strides[kOperands][kDimsMax] = {};  // of one step, in elements

  // Where a pack begins in each operand, in elements.
  WEFT_HD void offsets(std::int64_t pack, int n, std::int64_t (&at)[kOperands]) const {
    for (int k = 0; k < kOperands; ++k) at[k] = 0;
    if (dims == 0) {
      for (int k = 0; k < kOperands; ++k) {
        if (!repeats[k]) at[k] = pack * n - skew;
      }
      return;
    }
    for (int d = 0; d < dims; ++d) {
      const std::int64_t quotient =
          narrow ? divisors[d].quotient(static_cast<std::uint32_t>(pack)) : pack / shape[d];
      const std::int64_t index = pack - quotient * shape[d];
      for (int k = 0; k < kOperands; ++k) at[k] += index * strides[k][d];
      pack = quotient;
    }
  }
};

// What a walk needs to know of an operand's memory.
struct Place {
  const void* data = nullptr;
  std::int64_t bytes = 1;  // of an element
};

namespace walks {

inline int skew_of(const Place& place, int n) {
  return static_cast<int>(reinterpret_cast<std::uintptr_t>(place.data) /
                          static_cast<std::uintptr_t>(place.bytes) %
                          static_cast<std::uintptr_t>(n));
}

// count > 0 elements side by side in every operand.
inline strided::Layout flat(std::int64_t count, int operands) {
  strided::Layout layout;
  layout.operands = operands;
  layout.size = count;
  layout.dims = 1;
  layout.shape[0] = count;
  for (auto& strides : layout.strides) strides[0] = 1;
  return layout;
}

inline bool is_flat(const strided::Layout& layout) {
  if (layout.dims == 0) return true;
  if (layout.dims > 1 || layout.inner_stride(0) != 1) return false;
  for (int k = 1; k < layout.operands; ++k) {
    if (layout.inner_stride(k) != 0 && layout.inner_stride(k) != 1) return false;
  }
  return true;
}

// Whether every operand can be taken in packs of n: the first side by side along the innermost
// dimension, the others side by side or one element repeated, each pack aligned to itself.
inline bool packs_fit(const strided::Layout& layout, const Place* places, int n) {
  if (layout.dims == 0 || layout.inner_stride(0) != 1) return false;
  const bool flat = is_flat(layout);
  if (!flat && layout.inner_size() % n != 0) return false;
  const int skew = flat ? skew_of(places[0], n) : 0;
  for (int k = 0; k < layout.operands; ++k) {
    const std::int64_t inner = layout.inner_stride(k);
    if (inner == 0) continue;
    if (inner != 1 || skew_of(places[k], n) != skew) return false;
    for (int d = 0; d + 1 < layout.dims; ++d) {
      if (layout.strides[static_cast<std::size_t>(k)][static_cast<std::size_t>(d)] % n != 0) {
        return false;
      }
    }
  }
  return true;
}

}  // namespace walks

// n is 1, or packs_fit() said yes.
template <int kOperands>
Walk<kOperands> make_walk(const strided::Layout& layout, const Place* places, int n) {
  Walk<kOperands> walk;
  walk.size = layout.size;
  if (walks::is_flat(layout)) {
    walk.skew = walks::skew_of(places[0], n);
    walk.packs = (layout.size + walk.skew + n - 1) / n;
    for (int k = 0; k < kOperands; ++k)
      walk.repeats[k] = layout.dims > 0 && layout.inner_stride(k) == 0;
    return walk;
  }
  walk.packs = layout.size / n;
  walk.narrow = walk.packs < (std::int64_t{1} << 31);
  walk.dims = layout.dims;
  for (int d = 0; d < layout.dims; ++d) {
    const auto from = static_cast<std::size_t>(layout.dims - 1 - d);
    const std::int64_t step = d == 0 ? n : 1;
    walk.shape[d] = layout.shape[from] / step;
    if (walk.narrow) walk.divisors[d] = Divisor(static_cast<std::uint32_t>(walk.shape[d]));
    for (int k = 0; k < kOperands; ++k) {
      walk.strides[k][d] = layout.strides[static_cast<std::size_t>(k)][from] * step;
    }
  }
  for (int k = 0; k < kOperands; ++k) walk.repeats[k] = layout.inner_stride(k) == 0;
  return walk;
}

}  // namespace weft::kernels::cuda
