#include "kernels/embedding.h"

#include <cstring>

#include "kernels/cpu/staging.h"

namespace weft::kernels {
namespace {

template <class I>
void check_indices(const Embedding& p) {
  const I* indices = static_cast<const I*>(p.indices);
  for (std::int64_t i = 0; i < p.count; ++i) {
    const std::int64_t index = indices[i];
    if (index >= 0 && index < p.entries) continue;
    fail<InvalidArgument>(
        "embedding: index {} at position {} is outside [0, {}); check the tokens against the size "
        "of the vocabulary, and the length against the position table",
        index, i, p.entries);
  }
}

template <class I>
void gather(const Embedding& p, const std::byte* table, std::byte* y) {
  check_indices<I>(p);
  const I* indices = static_cast<const I*>(p.indices);
  const std::size_t bytes = bytes_of(Elems(p.width), p.dtype).size();
  parallel_for(p.count, grain_rows(p.width), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      std::memcpy(y + static_cast<std::size_t>(i) * bytes,
                  table + static_cast<std::size_t>(indices[i]) * bytes, bytes);
    }
  });
}

// Each thread owns a range of columns and takes all indices in order: no two threads write one
// element, and the order of additions does not depend on how columns are shared out.
template <class T, class I>
void scatter(const Embedding& p, const T* dy, T* dtable) {
  using R = Real<T>;
  constexpr std::int64_t kColumnsMin = 16;  // a cache line of floats
  const I* indices = static_cast<const I*>(p.indices);
  const std::int64_t width = p.width;
  std::vector<R> wide(is_staged<T> ? static_cast<std::size_t>(p.entries * width) : 0);
  R* sums = nullptr;
  if constexpr (is_staged<T>) {
    sums = wide.data();
  } else {
    sums = dtable;
  }
  parallel_for(width, kColumnsMin, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t e = 0; e < p.entries; ++e) {
      std::fill(sums + e * width + begin, sums + e * width + end, R(0));
    }
    for (std::int64_t i = 0; i < p.count; ++i) {
      R* row = sums + static_cast<std::int64_t>(indices[i]) * width;
      const T* gradient = dy + i * width;
      for (std::int64_t j = begin; j < end; ++j) row[j] += static_cast<R>(gradient[j]);
    }
  });
  if constexpr (is_staged<T>) {
    parallel_for(p.entries, grain_rows(width), [&](std::int64_t begin, std::int64_t end) {
      cast(dtable + begin * width, dtype_of<T>, sums + begin * width, dtype_of<R>,
           Elems((end - begin) * width));
    });
  }
}

}  // namespace

void embedding(const Embedding& problem, const void* table, void* y) {
  dispatch_index(problem.index_type, "embedding", [&]<class I>() {
    gather<I>(problem, static_cast<const std::byte*>(table), static_cast<std::byte*>(y));
  });
}

void embedding_backward(const Embedding& problem, const void* dy, void* dtable) {
  dispatch_floating(problem.dtype, "embedding", [&]<class T>() {
    dispatch_index(problem.index_type, "embedding", [&]<class I>() {
      check_indices<I>(problem);
      scatter<T, I>(problem, static_cast<const T*>(dy), static_cast<T*>(dtable));
    });
  });
}

}  // namespace weft::kernels
