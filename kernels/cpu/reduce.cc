#include "kernels/reduce.h"

#include <cmath>
#include <cstring>
#include <type_traits>

namespace weft::kernels {
namespace {

template <class T>
T load(const void* from, std::int64_t i) {
  T value;
  std::memcpy(&value, static_cast<const char*>(from) + i * static_cast<std::int64_t>(sizeof(T)),
              sizeof(T));
  return value;
}
template <class T>
void store(void* to, std::int64_t i, T value) {
  std::memcpy(static_cast<char*>(to) + i * static_cast<std::int64_t>(sizeof(T)), &value, sizeof(T));
}

template <class T>
using Wide = std::conditional_t<std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>, float,
                                std::conditional_t<std::is_floating_point_v<T>, T, std::uint64_t>>;

template <class T, class W>
W fold(ReduceOp op, W a, W b) {
  if (op == ReduceOp::prod) return a * b;
  if (op == ReduceOp::sum || op == ReduceOp::avg) return a + b;
  if constexpr (std::is_floating_point_v<W>) {
    if (std::isnan(a)) return a;
    if (std::isnan(b)) return b;
    return (op == ReduceOp::min) == (b < a) ? b : a;
  } else {
    return (op == ReduceOp::min) == (static_cast<T>(b) < static_cast<T>(a)) ? b : a;
  }
}

}  // namespace

void reduce(void* out, std::span<const void* const> inputs, Elems count, DType dtype, ReduceOp op,
            std::int64_t divisor) {
  dispatch(dtype, [&]<class T>() {
    using W = Wide<T>;
    for (std::int64_t i = 0; i < count.value; ++i) {
      W sum = static_cast<W>(load<T>(inputs[0], i));
      for (std::size_t k = 1; k < inputs.size(); ++k) {
        sum = fold<T>(op, sum, static_cast<W>(load<T>(inputs[k], i)));
      }
      if (op == ReduceOp::avg) {
        if constexpr (std::is_floating_point_v<W>) {
          sum = sum / static_cast<W>(divisor);
        } else {
          store(out, i, static_cast<T>(static_cast<std::int64_t>(static_cast<T>(sum)) / divisor));
          continue;
        }
      }
      store(out, i, T(sum));
    }
  });
}

}  // namespace weft::kernels
