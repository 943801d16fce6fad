#include "tensor/shape.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "kernels/base/check.h"
#include "kernels/base/error.h"

namespace weft::tensor {

std::int64_t numel(const Shape& shape) {
  std::int64_t count = 1;
  bool empty = false;
  for (const auto size : shape) {
    if (size < 0) fail<InvalidArgument>("shape {}: sizes must be >= 0", to_string(shape));
    if (size == 0) {
      empty = true;
    } else if (__builtin_mul_overflow(count, size, &count)) {
      fail<InvalidArgument>("shape {}: more than 2^63 elements", to_string(shape));
    }
  }
  return empty ? 0 : count;
}

Strides contiguous_strides(const Shape& shape) {
  Strides strides(shape.size());
  std::int64_t stride = 1;
  for (std::size_t i = shape.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= std::max<std::int64_t>(shape[i], 1);
  }
  return strides;
}

std::string to_string(const Shape& shape) {
  if (shape.size() == 1) return fmt::format("({},)", shape[0]);
  return fmt::format("({})", fmt::join(shape, ", "));
}

Shape broadcast_shapes(const Shape& a, const Shape& b) {
  return broadcast_shapes(a, b, "broadcast");
}

Shape broadcast_shapes(const Shape& a, const Shape& b, std::string_view operation) {
  if (a == b) return a;
  const auto& longer = a.size() >= b.size() ? a : b;
  const auto& shorter = a.size() >= b.size() ? b : a;
  Shape result = longer;
  const std::size_t lead = longer.size() - shorter.size();
  for (std::size_t i = 0; i < shorter.size(); ++i) {
    auto& size = result[lead + i];
    if (size == shorter[i] || shorter[i] == 1) continue;
    if (size != 1) {
      fail<InvalidArgument>(
          "{}: shapes {} and {} do not broadcast: dimension {} from the end is {} against {}; "
          "sizes "
          "must be equal or 1",
          operation, to_string(a), to_string(b), shorter.size() - i,
          a[a.size() - shorter.size() + i], b[b.size() - shorter.size() + i]);
    }
    size = shorter[i];
  }
  return result;
}

std::int64_t wrap_dim(std::int64_t d, std::int64_t dims, std::string_view operation) {
  if (d < -dims || d >= dims) {
    fail<InvalidArgument>("{}: dimension {} of a tensor with {} dimensions", operation, d, dims);
  }
  return d < 0 ? d + dims : d;
}

bool is_contiguous(const Shape& shape, const Strides& strides) {
  std::int64_t expected = 1;
  bool in_order = true;
  for (std::size_t i = shape.size(); i-- > 0;) {
    if (shape[i] == 0) return true;
    if (shape[i] == 1) continue;
    in_order = in_order && strides[i] == expected;
    expected *= shape[i];
  }
  return in_order;
}

Strides broadcast_strides(const Shape& shape, const Strides& strides, const Shape& to) {
  WEFT_ASSERT(shape.size() <= to.size(), "broadcast to fewer dimensions");
  const std::size_t lead = to.size() - shape.size();
  Strides result(to.size(), 0);
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] == to[lead + i]) {
      result[lead + i] = strides[i];
    } else {
      WEFT_ASSERT(shape[i] == 1, "shape does not broadcast");
    }
  }
  return result;
}

}  // namespace weft::tensor
