#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/base/error.h"
#include "kernels/base/thread_pool.h"
#include "kernels/cpu/targets.h"
#include "kernels/elementwise.h"
#include "kernels/functors/convert.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/reduce_axis.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include "kernels/cpu/half-inl.h"

// Columns summed together: their sums stay in the first-level cache.
#ifndef WEFT_COLUMN_BLOCK
#define WEFT_COLUMN_BLOCK 512
#endif

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

// The sum of a contiguous run. At most a few hundred terms meet in one lane.
template <class T>
double sum_run(const T* in, std::size_t count) {
  using E = Element<T>;
  const typename E::D d;
  const std::size_t lanes = hn::Lanes(d);
  auto s0 = hn::Zero(d), s1 = hn::Zero(d), s2 = hn::Zero(d), s3 = hn::Zero(d);
  std::size_t i = 0;
  for (; i + 4 * lanes <= count; i += 4 * lanes) {
    s0 = hn::Add(s0, E::load(d, in + i));
    s1 = hn::Add(s1, E::load(d, in + i + lanes));
    s2 = hn::Add(s2, E::load(d, in + i + 2 * lanes));
    s3 = hn::Add(s3, E::load(d, in + i + 3 * lanes));
  }
  for (; i + lanes <= count; i += lanes) s0 = hn::Add(s0, E::load(d, in + i));
  if (i < count) s1 = hn::Add(s1, E::load_some(d, in + i, count - i));
  const auto sum = hn::Add(hn::Add(s0, s1), hn::Add(s2, s3));
  return static_cast<double>(hn::GetLane(hn::SumOfLanes(d, sum)));
}

// sums[c] += the rows' column c, for `rows` rows that lie `stride` elements apart.
template <class T>
void add_rows(typename Element<T>::Compute* sums, const T* in, std::size_t rows, std::size_t stride,
              std::size_t columns) {
  using E = Element<T>;
  using S = Element<typename E::Compute>;
  const typename E::D d;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t c = 0;
  for (; c + lanes <= columns; c += lanes) {
    auto s0 = hn::Zero(d), s1 = hn::Zero(d);
    std::size_t r = 0;
    for (; r + 2 <= rows; r += 2) {
      s0 = hn::Add(s0, E::load(d, in + r * stride + c));
      s1 = hn::Add(s1, E::load(d, in + (r + 1) * stride + c));
    }
    if (r < rows) s0 = hn::Add(s0, E::load(d, in + r * stride + c));
    S::store(d, hn::Add(S::load(d, sums + c), hn::Add(s0, s1)), sums + c);
  }
  if (c == columns) return;
  const std::size_t left = columns - c;
  auto s0 = hn::Zero(d), s1 = hn::Zero(d);
  for (std::size_t r = 0; r < rows; ++r) {
    auto& sum = r % 2 == 0 ? s0 : s1;
    sum = hn::Add(sum, E::load_some(d, in + r * stride + c, left));
  }
  S::store_some(d, hn::Add(S::load_some(d, sums + c, left), hn::Add(s0, s1)), sums + c, left);
}

// Rows are summed in blocks of kRows, and the blocks' sums among themselves: short chains of
// additions round less.
template <class T>
void sum_columns(T* out, const T* in, std::size_t rows, std::size_t stride, std::size_t columns,
                 double divisor) {
  using C = typename Element<T>::Compute;
  constexpr std::size_t kRows = 64;
  C sums[WEFT_COLUMN_BLOCK] = {};
  for (std::size_t r = 0; r < rows; r += kRows) {
    add_rows(sums, in + r * stride, std::min(kRows, rows - r), stride, columns);
  }
  for (std::size_t c = 0; c < columns; ++c) out[c] = T(sums[c] / static_cast<C>(divisor));
}

double sum_run_any(DType dtype, const void* in, std::size_t count) {
  if (dtype == DType::f64) return sum_run(static_cast<const double*>(in), count);
  if (dtype == DType::f16) return sum_run(static_cast<const Half*>(in), count);
  if (dtype == DType::bf16) return sum_run(static_cast<const BFloat16*>(in), count);
  return sum_run(static_cast<const float*>(in), count);
}

void sum_columns_any(DType dtype, void* out, const void* in, std::size_t rows, std::size_t stride,
                     std::size_t columns, double divisor) {
  dispatch(dtype, [&]<class T>() {
    if constexpr (!std::is_integral_v<T>) {
      sum_columns(static_cast<T*>(out), static_cast<const T*>(in), rows, stride, columns, divisor);
    }
  });
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {

HWY_EXPORT(sum_run_any);
HWY_EXPORT(sum_columns_any);

namespace {

constexpr std::int64_t kChunk = 16384;  // elements summed in one go
constexpr std::int64_t kGrain = 32768;  // elements worth a thread
constexpr std::int64_t kNarrow = 8;     // fewer columns than this are summed one by one
constexpr std::int64_t kNarrowRows = 4096;

const std::byte* at(const void* data, std::int64_t index, DType dtype) {
  return static_cast<const std::byte*>(data) + index * size_of(dtype).value;
}

void put(void* out, std::int64_t index, DType dtype, double value) {
  dispatch(dtype, [&]<class T>() { static_cast<T*>(out)[index] = convert<T>(value); });
}

// Chunks are cut by size alone and folded in order, in f64.
void sum_rows(DType dtype, Axis axis, void* out, const void* in, double divisor) {
  const std::int64_t chunks = std::max<std::int64_t>(1, (axis.reduced + kChunk - 1) / kChunk);
  std::vector<double> partial(static_cast<std::size_t>(chunks > 1 ? axis.outer * chunks : 0));
  const std::int64_t grain =
      std::max<std::int64_t>(1, kGrain / std::clamp<std::int64_t>(axis.reduced, 1, kChunk));
  parallel_for(axis.outer * chunks, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t start = i % chunks * kChunk;
      const double sum = HWY_DYNAMIC_DISPATCH(sum_run_any)(
          dtype, at(in, i / chunks * axis.reduced + start, dtype),
          static_cast<std::size_t>(std::min(kChunk, axis.reduced - start)));
      if (chunks == 1) {
        put(out, i, dtype, sum / divisor);
      } else {
        partial[static_cast<std::size_t>(i)] = sum;
      }
    }
  });
  if (chunks == 1) return;
  for (std::int64_t o = 0; o < axis.outer; ++o) {
    double sum = 0.0;
    for (std::int64_t c = 0; c < chunks; ++c) {
      sum += partial[static_cast<std::size_t>(o * chunks + c)];
    }
    put(out, o, dtype, sum / divisor);
  }
}

// A handful of columns: chunks of rows, summed in f64.
void sum_narrow_columns(DType dtype, Axis axis, void* out, const void* in, double divisor) {
  const std::int64_t chunks =
      std::max<std::int64_t>(1, (axis.reduced + kNarrowRows - 1) / kNarrowRows);
  std::vector<double> partial(static_cast<std::size_t>(axis.outer * chunks * axis.inner));
  parallel_for(axis.outer * chunks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t first = i % chunks * kNarrowRows;
      const std::int64_t last = std::min(axis.reduced, first + kNarrowRows);
      double* const sums = partial.data() + i * axis.inner;
      dispatch(dtype, [&]<class T>() {
        const T* const rows = static_cast<const T*>(in) + i / chunks * axis.reduced * axis.inner;
        for (std::int64_t r = first; r < last; ++r) {
          for (std::int64_t c = 0; c < axis.inner; ++c) {
            sums[c] += convert<double>(rows[r * axis.inner + c]);
          }
        }
      });
    }
  });
  for (std::int64_t i = 0; i < axis.outer * axis.inner; ++i) {
    double sum = 0.0;
    for (std::int64_t c = 0; c < chunks; ++c) {
      sum += partial[static_cast<std::size_t>((i / axis.inner * chunks + c) * axis.inner +
                                              i % axis.inner)];
    }
    put(out, i, dtype, sum / divisor);
  }
}

void sum_wide_columns(DType dtype, Axis axis, void* out, const void* in, double divisor) {
  const std::int64_t grain =
      std::max<std::int64_t>(16, kGrain / std::max<std::int64_t>(axis.reduced, 1));
  parallel_for(axis.outer * axis.inner, grain, [&](std::int64_t begin, std::int64_t end) {
    while (begin < end) {
      const std::int64_t column = begin % axis.inner;
      const std::int64_t columns = std::min(
          {end - begin, axis.inner - column, static_cast<std::int64_t>(WEFT_COLUMN_BLOCK)});
      const std::int64_t start = begin / axis.inner * axis.reduced * axis.inner + column;
      HWY_DYNAMIC_DISPATCH(sum_columns_any)
      (dtype, static_cast<std::byte*>(out) + begin * size_of(dtype).value, at(in, start, dtype),
       static_cast<std::size_t>(axis.reduced), static_cast<std::size_t>(axis.inner),
       static_cast<std::size_t>(columns), divisor);
      begin += columns;
    }
  });
}

void sum_integers(DType dtype, Axis axis, void* out, const void* in) {
  const std::int64_t grain =
      std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(axis.reduced, 1));
  parallel_for(axis.outer * axis.inner, grain, [&](std::int64_t begin, std::int64_t end) {
    dispatch(dtype, [&]<class T>() {
      if constexpr (std::is_integral_v<T>) {
        for (std::int64_t i = begin; i < end; ++i) {
          const T* const column = static_cast<const T*>(in) +
                                  i / axis.inner * axis.reduced * axis.inner + i % axis.inner;
          std::uint64_t sum = 0;
          for (std::int64_t r = 0; r < axis.reduced; ++r) {
            sum += static_cast<std::uint64_t>(column[r * axis.inner]);
          }
          static_cast<T*>(out)[i] = static_cast<T>(sum);
        }
      }
    });
  });
}

void check(std::string_view operation, Axis axis) {
  if (axis.outer < 0 || axis.reduced < 0 || axis.inner < 0) {
    fail<InvalidArgument>("{}: sizes ({}, {}, {}): expected 0 or more.", operation, axis.outer,
                          axis.reduced, axis.inner);
  }
}

}  // namespace

void reduce_axis(AxisOp op, DType dtype, Axis axis, void* out, const void* in) {
  check("reduce_axis", axis);
  if (!is_floating(dtype)) {
    if (op == AxisOp::mean) {
      fail<InvalidArgument>("reduce_axis: mean does not serve {}: convert to a floating type.",
                            name_of(dtype));
    }
    return sum_integers(dtype, axis, out, in);
  }
  const double divisor = op == AxisOp::mean ? static_cast<double>(axis.reduced) : 1.0;
  if (axis.inner == 1) return sum_rows(dtype, axis, out, in, divisor);
  if (axis.inner < kNarrow) return sum_narrow_columns(dtype, axis, out, in, divisor);
  sum_wide_columns(dtype, axis, out, in, divisor);
}

}  // namespace weft::kernels
#endif
