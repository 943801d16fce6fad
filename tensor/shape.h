// Shapes and strides, in elements.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace weft::tensor {

using Shape = std::vector<std::int64_t>;    // () is a scalar
using Strides = std::vector<std::int64_t>;  // elements; 0 where expanded

std::int64_t numel(const Shape& shape);
Strides contiguous_strides(const Shape& shape);
std::string to_string(const Shape& shape);  // "(2, 3)"
// NumPy's rule; InvalidArgument names both shapes.
Shape broadcast_shapes(const Shape& a, const Shape& b);

}  // namespace weft::tensor
