#include "kernels/cpu/strided.h"

#include <algorithm>
#include <cstring>

#include "kernels/base/error.h"

namespace weft::kernels::strided {
namespace {

using Index = std::size_t;

void swap_dims(Layout& layout, Index a, Index b) {
  std::swap(layout.shape[a], layout.shape[b]);
  for (auto& strides : layout.strides) std::swap(strides[a], strides[b]);
}

std::int64_t magnitude(std::int64_t stride) { return stride < 0 ? -stride : stride; }

// Insertion sort: stable, and ranks are small.
void order_by_output(Layout& layout) {
  for (Index i = 1; i < static_cast<Index>(layout.dims); ++i) {
    for (Index j = i; j > 0; --j) {
      if (magnitude(layout.strides[0][j - 1]) >= magnitude(layout.strides[0][j])) break;
      swap_dims(layout, j - 1, j);
    }
  }
}

void merge_neighbours(Layout& layout) {
  if (layout.dims == 0) return;
  Index kept = 0;
  for (Index d = 1; d < static_cast<Index>(layout.dims); ++d) {
    bool mergeable = true;
    for (int k = 0; k < layout.operands; ++k) {
      const auto& strides = layout.strides[static_cast<Index>(k)];
      mergeable = mergeable && strides[kept] == strides[d] * layout.shape[d];
    }
    if (mergeable) {
      layout.shape[kept] *= layout.shape[d];
    } else {
      ++kept;
      layout.shape[kept] = layout.shape[d];
    }
    for (auto& strides : layout.strides) strides[kept] = strides[d];
  }
  layout.dims = static_cast<int>(kept) + 1;
}

// Calls row(offset in elements, position in the run, length) for each stretch along the last
// dimension of linear range [begin, begin + count).
template <class Row>
void for_each_row(const Layout& layout, int operand, std::int64_t begin, std::int64_t count,
                  const Row& row) {
  if (layout.dims == 0) {
    row(0, 0, 1);
    return;
  }
  const auto& strides = layout.strides[static_cast<Index>(operand)];
  const Index last = static_cast<Index>(layout.dims - 1);
  std::array<std::int64_t, kDimsMax> index{};
  std::int64_t rest = begin;
  std::int64_t offset = 0;
  for (Index d = last + 1; d-- > 0;) {
    index[d] = rest % layout.shape[d];
    rest /= layout.shape[d];
    offset += index[d] * strides[d];
  }
  for (std::int64_t done = 0; done < count;) {
    const std::int64_t length = std::min(layout.shape[last] - index[last], count - done);
    row(offset, done, length);
    done += length;
    index[last] += length;
    offset += length * strides[last];
    for (Index d = last; d > 0 && index[d] == layout.shape[d]; --d) {
      offset += strides[d - 1] - index[d] * strides[d];
      index[d] = 0;
      ++index[d - 1];
    }
  }
}

template <class Visitor>
void with_bytes(DType dtype, Visitor&& visitor) {
  switch (size_of(dtype).value) {
    case 8:
      return visitor(std::uint64_t{});
    case 4:
      return visitor(std::uint32_t{});
    case 2:
      return visitor(std::uint16_t{});
    default:
      return visitor(std::uint8_t{});
  }
}

// Elements move as raw words of their size, through memcpy: their real type does not matter.
template <class Word>
void copy_row(std::byte* to, std::int64_t to_stride, const std::byte* from,
              std::int64_t from_stride, std::int64_t count) {
  constexpr std::int64_t kBytes = sizeof(Word);
  if (to_stride == 1 && from_stride == 1) {
    std::memcpy(to, from, static_cast<std::size_t>(count * kBytes));
    return;
  }
  if (from_stride == 0 && to_stride == 1) {
    Word word;
    std::memcpy(&word, from, sizeof word);
    for (std::int64_t i = 0; i < count; ++i) std::memcpy(to + i * kBytes, &word, sizeof word);
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) {
    Word word;
    std::memcpy(&word, from + i * from_stride * kBytes, sizeof word);
    std::memcpy(to + i * to_stride * kBytes, &word, sizeof word);
  }
}

}  // namespace

Layout make_layout(std::string_view operation, Dims shape, std::span<const Dims> strides) {
  if (shape.size() > kDimsMax) {
    fail<InvalidArgument>("{}: {} dimensions: at most {} are supported.", operation, shape.size(),
                          kDimsMax);
  }
  for (std::size_t k = 0; k < strides.size(); ++k) {
    if (strides[k].size() != shape.size()) {
      fail<InvalidArgument>("{}: operand {} has {} strides for a shape of {} dimensions.",
                            operation, k, strides[k].size(), shape.size());
    }
  }
  Layout layout;
  layout.operands = static_cast<int>(strides.size());
  for (std::size_t d = 0; d < shape.size(); ++d) {
    if (shape[d] < 0) {
      fail<InvalidArgument>("{}: dimension {} has size {}: expected 0 or more.", operation, d,
                            shape[d]);
    }
    layout.size *= shape[d];
    if (shape[d] == 1) continue;
    const auto slot = static_cast<Index>(layout.dims++);
    layout.shape[slot] = shape[d];
    for (std::size_t k = 0; k < strides.size(); ++k) layout.strides[k][slot] = strides[k][d];
  }
  if (layout.size == 0) {
    layout.dims = 0;
    return layout;
  }
  order_by_output(layout);
  merge_neighbours(layout);
  return layout;
}

std::int64_t offset_of(const Layout& layout, int operand, std::int64_t begin) {
  const auto& strides = layout.strides[static_cast<Index>(operand)];
  std::int64_t offset = 0;
  for (Index d = static_cast<Index>(layout.dims); d-- > 0;) {
    offset += begin % layout.shape[d] * strides[d];
    begin /= layout.shape[d];
  }
  return offset;
}

void gather(const Layout& layout, int operand, DType dtype, const void* data, std::int64_t begin,
            std::int64_t count, void* run) {
  const std::int64_t stride = layout.inner_stride(operand);
  with_bytes(dtype, [&](auto word) {
    using Word = decltype(word);
    constexpr std::int64_t kBytes = sizeof(Word);
    for_each_row(layout, operand, begin, count,
                 [&](std::int64_t offset, std::int64_t position, std::int64_t length) {
                   copy_row<Word>(static_cast<std::byte*>(run) + position * kBytes, 1,
                                  static_cast<const std::byte*>(data) + offset * kBytes, stride,
                                  length);
                 });
  });
}

void scatter(const Layout& layout, int operand, DType dtype, void* data, std::int64_t begin,
             std::int64_t count, const void* run) {
  const std::int64_t stride = layout.inner_stride(operand);
  with_bytes(dtype, [&](auto word) {
    using Word = decltype(word);
    constexpr std::int64_t kBytes = sizeof(Word);
    for_each_row(layout, operand, begin, count,
                 [&](std::int64_t offset, std::int64_t position, std::int64_t length) {
                   copy_row<Word>(static_cast<std::byte*>(data) + offset * kBytes, stride,
                                  static_cast<const std::byte*>(run) + position * kBytes, 1,
                                  length);
                 });
  });
}

}  // namespace weft::kernels::strided
