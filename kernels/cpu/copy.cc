// Strided copies: rows by memcpy, transposed planes in tiles, everything else run by run.
#include <algorithm>
#include <cstring>

#include "kernels/base/thread_pool.h"
#include "kernels/cast.h"
#include "kernels/cpu/strided.h"
#include "kernels/elementwise.h"

namespace weft::kernels {
namespace {

using strided::kRun;
using strided::Layout;

constexpr std::int64_t kGrain = 32768;
constexpr std::int64_t kTile = 32;

std::byte* at(void* data, std::int64_t offset, std::int64_t bytes) {
  return static_cast<std::byte*>(data) + offset * bytes;
}
const std::byte* at(const void* data, std::int64_t offset, std::int64_t bytes) {
  return static_cast<const std::byte*>(data) + offset * bytes;
}

// The dimension along which the input runs side by side; -1 where there is none.
int input_row_dim(const Layout& layout) {
  for (int d = 0; d + 1 < layout.dims; ++d) {
    if (layout.strides[1][static_cast<std::size_t>(d)] == 1) return d;
  }
  return -1;
}

bool same_strides(const Layout& layout) {
  return std::equal(layout.strides[0].begin(), layout.strides[0].begin() + layout.dims,
                    layout.strides[1].begin());
}

// A plane of rows x columns: the output runs side by side along columns, the input along rows.
struct Plane {
  std::int64_t rows, columns, out_row_stride, in_column_stride;
};

template <class Word>
void transpose_tiles(std::byte* out, const std::byte* in, const Plane& plane) {
  constexpr std::int64_t kBytes = sizeof(Word);
  for (std::int64_t r0 = 0; r0 < plane.rows; r0 += kTile) {
    const std::int64_t r1 = std::min(plane.rows, r0 + kTile);
    for (std::int64_t c0 = 0; c0 < plane.columns; c0 += kTile) {
      const std::int64_t c1 = std::min(plane.columns, c0 + kTile);
      for (std::int64_t r = r0; r < r1; ++r) {
        for (std::int64_t c = c0; c < c1; ++c) {
          std::memcpy(out + (r * plane.out_row_stride + c) * kBytes,
                      in + (c * plane.in_column_stride + r) * kBytes, sizeof(Word));
        }
      }
    }
  }
}

void transpose_plane(std::byte* out, const std::byte* in, const Plane& plane, std::int64_t bytes) {
  switch (bytes) {
    case 8:
      return transpose_tiles<std::uint64_t>(out, in, plane);
    case 4:
      return transpose_tiles<std::uint32_t>(out, in, plane);
    case 2:
      return transpose_tiles<std::uint16_t>(out, in, plane);
    default:
      return transpose_tiles<std::uint8_t>(out, in, plane);
  }
}

// Work is shared out in strips of kTile rows of all planes.
void copy_transposed(const Layout& layout, int row_dim, void* out, const void* in,
                     std::int64_t bytes) {
  const auto row = static_cast<std::size_t>(row_dim);
  const auto column = static_cast<std::size_t>(layout.dims - 1);
  const std::int64_t rows = layout.shape[row];
  const std::int64_t columns = layout.shape[column];
  Layout planes = layout;  // one element a plane
  planes.shape[row] = 1;
  planes.shape[column] = 1;
  const std::int64_t plane_count = layout.size / (rows * columns);
  const std::int64_t strips = (rows + kTile - 1) / kTile;
  const std::int64_t grain = std::max<std::int64_t>(1, kGrain / (kTile * columns));
  parallel_for(plane_count * strips, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t first_row = i % strips * kTile;
      const Plane plane{std::min(kTile, rows - first_row), columns, layout.strides[0][row],
                        layout.strides[1][column]};
      const std::int64_t to =
          strided::offset_of(planes, 0, i / strips) + first_row * layout.strides[0][row];
      const std::int64_t from = strided::offset_of(planes, 1, i / strips) + first_row;
      transpose_plane(at(out, to, bytes), at(in, from, bytes), plane, bytes);
    }
  });
}

// One type on both sides, rows side by side on both sides.
void copy_rows(const Layout& layout, void* out, const void* in, std::int64_t bytes) {
  parallel_for(layout.size, kGrain, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t inner = layout.inner_size();
    while (begin < end) {
      const std::int64_t count = std::min(end - begin, inner - begin % inner);
      std::memcpy(at(out, strided::offset_of(layout, 0, begin), bytes),
                  at(in, strided::offset_of(layout, 1, begin), bytes),
                  static_cast<std::size_t>(count * bytes));
      begin += count;
    }
  });
}

void copy_runs(const Layout& layout, Operand out, DType out_type, ConstOperand in, DType in_type) {
  parallel_for(layout.size, kGrain, [&](std::int64_t begin, std::int64_t end) {
    alignas(64) std::byte from[kRun * 8];
    alignas(64) std::byte to[kRun * 8];
    for (; begin < end; begin += kRun) {
      const std::int64_t count = std::min(kRun, end - begin);
      const void* source = from;
      if (layout.is_contiguous(1)) {
        source = at(in.data, begin, size_of(in_type).value);
      } else {
        strided::gather(layout, 1, in_type, in.data, begin, count, from);
      }
      if (layout.is_contiguous(0)) {
        cast(at(out.data, begin, size_of(out_type).value), out_type, source, in_type, Elems(count));
        continue;
      }
      if (out_type != in_type) {
        cast(to, out_type, source, in_type, Elems(count));
        source = to;
      }
      strided::scatter(layout, 0, out_type, out.data, begin, count, source);
    }
  });
}

}  // namespace

void copy(Dims shape, Operand out, DType out_type, ConstOperand in, DType in_type) {
  const Dims strides[] = {out.strides, in.strides};
  const Layout layout = strided::make_layout("copy", shape, strides);
  if (layout.size == 0) return;
  if (out_type == in_type && layout.inner_stride(0) == 1) {
    const std::int64_t bytes = size_of(out_type).value;
    const bool same_rows = layout.inner_stride(1) == 1;
    if (out.data == in.data && same_strides(layout)) return;
    if (same_rows && (layout.dims <= 1 || layout.inner_size() >= 8)) {
      return copy_rows(layout, out.data, in.data, bytes);
    }
    const int row_dim = input_row_dim(layout);
    if (!same_rows && row_dim >= 0) {
      return copy_transposed(layout, row_dim, out.data, in.data, bytes);
    }
  }
  copy_runs(layout, out, out_type, in, in_type);
}

}  // namespace weft::kernels
