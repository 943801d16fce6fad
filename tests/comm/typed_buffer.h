// Memory of any dtype, aligned or not, seen as doubles.
#pragma once

#include <cstring>
#include <vector>

#include "comm/communicator.h"
#include "kernels/base/dtype.h"

namespace weft::comm::testing {

class TypedBuffer {
 public:
  TypedBuffer(DType dtype, std::int64_t count, bool unaligned)
      : dtype_(dtype),
        count_(count),
        offset_(unaligned ? 1 : 0),
        bytes_(bytes_of(Elems(count), dtype).size() + 1) {}

  void set(std::int64_t i, double value) {
    dispatch(dtype_, [&]<class T>() {
      T element{};
      if constexpr (sizeof(T) == 2) {
        element = T(static_cast<float>(value));
      } else {
        element = static_cast<T>(value);
      }
      std::memcpy(at(i), &element, sizeof element);
    });
  }
  double get(std::int64_t i) const {
    return dispatch(dtype_, [&]<class T>() {
      T element{};
      std::memcpy(&element, const_cast<TypedBuffer*>(this)->at(i), sizeof element);
      if constexpr (sizeof(T) == 2) {
        return static_cast<double>(static_cast<float>(element));
      } else {
        return static_cast<double>(element);
      }
    });
  }

  View view() { return view(0, count_); }
  View view(std::int64_t begin, std::int64_t count) { return {at(begin), Elems(count), dtype_}; }

 private:
  std::byte* at(std::int64_t i) {
    return bytes_.data() + offset_ + static_cast<std::size_t>(i) * size_of(dtype_).size();
  }
  DType dtype_;
  std::int64_t count_;
  std::size_t offset_;
  std::vector<std::byte> bytes_;
};

// What rank `rank` contributes at `i`: small, so that sums and products are exact in every dtype.
inline double share(int rank, std::int64_t i, ReduceOp op) {
  if (op == ReduceOp::prod) return static_cast<double>(1 + (rank + i) % 2);
  return static_cast<double>(1 + (rank * 7 + i * 3) % 5);
}

inline double folded(int size, std::int64_t i, ReduceOp op) {
  double result = share(0, i, op);
  for (int r = 1; r < size; ++r) {
    const double value = share(r, i, op);
    switch (op) {
      case ReduceOp::prod:
        result *= value;
        break;
      case ReduceOp::min:
        result = std::min(result, value);
        break;
      case ReduceOp::max:
        result = std::max(result, value);
        break;
      default:
        result += value;
    }
  }
  return op == ReduceOp::avg ? result / size : result;
}

}  // namespace weft::comm::testing
