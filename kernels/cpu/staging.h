// How kernels written for float and double serve all floating types: rows of halves are widened
// into scratch, worked on, and rounded back once; other types are worked on where they are.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <vector>

#include "kernels/base/dtype.h"
#include "kernels/base/error.h"
#include "kernels/base/thread_pool.h"
#include "kernels/cast.h"

namespace weft::kernels {

// What T is computed in.
template <class T>
using Real = std::conditional_t<std::is_same_v<T, double>, double, float>;
template <class T>
inline constexpr bool is_staged = !std::is_same_v<T, Real<T>>;

template <class Visitor>
void dispatch_floating(DType dtype, std::string_view operation, Visitor&& visitor) {
  dispatch(dtype, [&]<class T>() {
    if constexpr (!std::is_integral_v<T>) {
      visitor.template operator()<T>();
    } else {
      fail<InvalidArgument>("{}: dtype {} is not a floating type; cast to f64, f32, f16 or bf16",
                            operation, name_of(dtype));
    }
  });
}

template <class Visitor>
void dispatch_index(DType dtype, std::string_view operation, Visitor&& visitor) {
  if (dtype == DType::i64) {
    visitor.template operator()<std::int64_t>();
  } else if (dtype == DType::i32) {
    visitor.template operator()<std::int32_t>();
  } else {
    fail<InvalidArgument>("{}: indices are {}; cast to i64 or i32", operation, name_of(dtype));
  }
}

// A run of T seen as Real<T>.
template <class T>
class Reader {
 public:
  const Real<T>* read(const T* from, std::int64_t count) {
    if constexpr (is_staged<T>) {
      if (from == nullptr) return nullptr;
      scratch_.resize(static_cast<std::size_t>(count));
      cast(scratch_.data(), dtype_of<Real<T>>, from, dtype_of<T>, Elems(count));
      return scratch_.data();
    } else {
      return from;
    }
  }

 private:
  std::vector<Real<T>> scratch_;
};

template <class T>
class Writer {
 public:
  Real<T>* begin(T* to, std::int64_t count) {
    if constexpr (is_staged<T>) {
      if (to == nullptr) return nullptr;
      scratch_.resize(static_cast<std::size_t>(count));
      return scratch_.data();
    } else {
      return to;
    }
  }
  void end(T* to, std::int64_t count) {
    if constexpr (is_staged<T>) {
      if (to != nullptr) {
        cast(to, dtype_of<T>, scratch_.data(), dtype_of<Real<T>>, Elems(count));
      }
    }
  }

 private:
  std::vector<Real<T>> scratch_;
};

// Elements a range must hold before another thread is worth waking, and elements staged at once.
inline constexpr std::int64_t kGrainElems = 16384;
inline constexpr std::int64_t kStageElems = 4096;

inline std::int64_t grain_rows(std::int64_t columns) {
  return std::max<std::int64_t>(1, kGrainElems / std::max<std::int64_t>(columns, 1));
}

// body(first_row, rows): as many rows at once as staging likes.
template <class T, class Body>
void for_staged_rows(std::int64_t begin, std::int64_t end, std::int64_t columns, const Body& body) {
  const std::int64_t step =
      is_staged<T> ? std::max<std::int64_t>(1, kStageElems / std::max<std::int64_t>(columns, 1))
                   : std::max<std::int64_t>(1, end - begin);
  for (std::int64_t row = begin; row < end; row += step) body(row, std::min(step, end - row));
}

// out[j] = the sum over fixed blocks of rows, in order, of what body(first_row, last_row, partial)
// adds into `partial` (width elements, zero at first). The blocks depend on `rows` alone.
template <class R, class Body>
void sum_over_row_blocks(std::int64_t rows, std::int64_t width, R* out, const Body& body) {
  constexpr std::int64_t kBlocksMax = 64, kBlockRowsMin = 32;
  const std::int64_t block_rows =
      std::max<std::int64_t>(kBlockRowsMin, (rows + kBlocksMax - 1) / kBlocksMax);
  const std::int64_t blocks = (rows + block_rows - 1) / block_rows;
  std::vector<R> partials(static_cast<std::size_t>(blocks * width), R(0));
  const std::int64_t grain = grain_rows(block_rows * width);
  parallel_for(blocks, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      body(b * block_rows, std::min(rows, (b + 1) * block_rows), partials.data() + b * width);
    }
  });
  if (out == nullptr) return;
  std::fill(out, out + width, R(0));
  for (std::int64_t b = 0; b < blocks; ++b) {
    const R* partial = partials.data() + b * width;
    for (std::int64_t j = 0; j < width; ++j) out[j] += partial[j];
  }
}

}  // namespace weft::kernels
