// Shapes and strides, in elements.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace weft::tensor {

using Shape = std::vector<std::int64_t>;    // () is a scalar
using Strides = std::vector<std::int64_t>;  // elements; 0 where expanded

// Product of the sizes. InvalidArgument for a negative size or a count beyond 2^63.
std::int64_t numel(const Shape& shape);
Strides contiguous_strides(const Shape& shape);
std::string to_string(const Shape& shape);  // "(2, 3)"
// NumPy's rule; InvalidArgument names both shapes.
Shape broadcast_shapes(const Shape& a, const Shape& b);
Shape broadcast_shapes(const Shape& a, const Shape& b, std::string_view operation);

// Dimension `d` of `dims`, negative counting from the end; InvalidArgument names the operation.
std::int64_t wrap_dim(std::int64_t d, std::int64_t dims, std::string_view operation);
// Whether elements lie in row-major order without gaps (dimensions of size 1 do not matter).
bool is_contiguous(const Shape& shape, const Strides& strides);
// How a tensor of `shape` and `strides` is read as one of `to` (to which it broadcasts).
Strides broadcast_strides(const Shape& shape, const Strides& strides, const Shape& to);

}  // namespace weft::tensor
