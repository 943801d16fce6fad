// How strided operands are walked: dimensions are merged and ordered once, then linear ranges of
// elements are read into, or written from, short contiguous runs.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "kernels/elementwise.h"

namespace weft::kernels::strided {

inline constexpr int kOperandsMax = 3;
// Elements in a run that goes through buffers: four runs of f64 fit the first-level cache.
inline constexpr std::int64_t kRun = 1024;

// Strides of operand 0 (the output) fall from the first dimension to the last, so that linear
// order follows its memory. size == 1 has no dimension left.
struct Layout {
  int dims = 0;
  int operands = 0;
  std::int64_t size = 1;
  std::array<std::int64_t, kDimsMax> shape{};
  std::array<std::array<std::int64_t, kDimsMax>, kOperandsMax> strides{};

  // Elements side by side in memory, in linear order, over the whole of it.
  bool is_contiguous(int operand) const {
    return dims == 0 || (dims == 1 && strides[static_cast<std::size_t>(operand)][0] == 1);
  }
  std::int64_t inner_size() const {
    return dims == 0 ? 1 : shape[static_cast<std::size_t>(dims - 1)];
  }
  std::int64_t inner_stride(int operand) const {
    return dims == 0
               ? 1
               : strides[static_cast<std::size_t>(operand)][static_cast<std::size_t>(dims - 1)];
  }
};

// InvalidArgument, naming `operation`, where ranks differ, a size is negative or dims are too many.
Layout make_layout(std::string_view operation, Dims shape, std::span<const Dims> strides);

// Offset, in elements, of linear position `begin`.
std::int64_t offset_of(const Layout& layout, int operand, std::int64_t begin);

// run[0..count) = the operand's elements begin .. begin + count in linear order, and back.
void gather(const Layout& layout, int operand, DType dtype, const void* data, std::int64_t begin,
            std::int64_t count, void* run);
void scatter(const Layout& layout, int operand, DType dtype, void* data, std::int64_t begin,
             std::int64_t count, const void* run);

}  // namespace weft::kernels::strided
