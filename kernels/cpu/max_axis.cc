#include <algorithm>
#include <cstring>

#include "kernels/base/error.h"
#include "kernels/base/thread_pool.h"
#include "kernels/elementwise.h"
#include "kernels/functors/convert.h"

namespace weft::kernels {
namespace {

constexpr std::int64_t kGrain = 16384;
constexpr std::int64_t kColumns = 256;

template <class T>
auto comparable(T value) {
  if constexpr (is_half_type<T>) {
    return static_cast<float>(value);
  } else {
    return value;
  }
}

// NaN is above everything, and the first one stays.
template <class V>
bool is_above(V value, V best) {
  if constexpr (std::is_floating_point_v<V>) {
    return value > best || (std::isnan(value) && !std::isnan(best));
  } else {
    return value > best;
  }
}

// Columns [column, column + columns) of one outer slice, row by row.
template <class T>
void scan_columns(const T* in, Axis axis, std::int64_t columns, T* out, std::int64_t* indices) {
  decltype(comparable(T{})) best[kColumns];
  std::int64_t where[kColumns];
  for (std::int64_t c = 0; c < columns; ++c) {
    best[c] = comparable(in[c]);
    where[c] = 0;
  }
  for (std::int64_t r = 1; r < axis.reduced; ++r) {
    const T* const row = in + r * axis.inner;
    for (std::int64_t c = 0; c < columns; ++c) {
      const auto value = comparable(row[c]);
      if (is_above(value, best[c])) {
        best[c] = value;
        where[c] = r;
      }
    }
  }
  for (std::int64_t c = 0; c < columns; ++c) {
    if (out != nullptr) out[c] = T(best[c]);
    if (indices != nullptr) indices[c] = where[c];
  }
}

std::int64_t grain_for(Axis axis) {
  return std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(axis.reduced, 1));
}

}  // namespace

void max_axis(DType dtype, Axis axis, void* out, std::int64_t* indices, const void* in) {
  if (axis.outer < 0 || axis.inner < 0 || axis.reduced < 0 ||
      (axis.reduced == 0 && axis.outer * axis.inner > 0)) {
    fail<InvalidArgument>(
        "max_axis: sizes ({}, {}, {}): the largest of no elements is not defined.", axis.outer,
        axis.reduced, axis.inner);
  }
  parallel_for(axis.outer * axis.inner, grain_for(axis), [&](std::int64_t begin, std::int64_t end) {
    dispatch(dtype, [&]<class T>() {
      while (begin < end) {
        const std::int64_t column = begin % axis.inner;
        const std::int64_t columns = std::min({end - begin, axis.inner - column, kColumns});
        const T* const first =
            static_cast<const T*>(in) + begin / axis.inner * axis.reduced * axis.inner + column;
        scan_columns(first, axis, columns, out != nullptr ? static_cast<T*>(out) + begin : nullptr,
                     indices != nullptr ? indices + begin : nullptr);
        begin += columns;
      }
    });
  });
}

void max_axis_backward(DType dtype, Axis axis, void* grad_in, const void* grad_out,
                       const std::int64_t* indices) {
  const std::int64_t bytes = size_of(dtype).value;
  const std::int64_t slice = axis.reduced * axis.inner;
  parallel_for(axis.outer, grain_for({1, slice, 1}), [&](std::int64_t begin, std::int64_t end) {
    auto* const to = static_cast<std::byte*>(grad_in);
    std::memset(to + begin * slice * bytes, 0,
                static_cast<std::size_t>((end - begin) * slice * bytes));
    for (std::int64_t i = begin * axis.inner; i < end * axis.inner; ++i) {
      if (indices[i] < 0 || indices[i] >= axis.reduced) {
        fail<InvalidArgument>("max_axis_backward: index {} at {}: expected 0..{}.", indices[i], i,
                              axis.reduced - 1);
      }
      const std::int64_t target = i / axis.inner * slice + indices[i] * axis.inner + i % axis.inner;
      std::memcpy(to + target * bytes, static_cast<const std::byte*>(grad_out) + i * bytes,
                  static_cast<std::size_t>(bytes));
    }
  });
}

}  // namespace weft::kernels
