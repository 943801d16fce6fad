// Element-wise reduction of several inputs in one pass: what every reducing collective is made of.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "kernels/base/dtype.h"
#include "kernels/base/units.h"

namespace weft {

enum class ReduceOp : std::uint8_t { sum, prod, min, max, avg };
inline constexpr int kReduceOpCount = 5;

std::string_view name_of(ReduceOp op);
std::optional<ReduceOp> parse_reduce_op(std::string_view name);

}  // namespace weft

namespace weft::kernels {

// out[i] = inputs[0][i] op inputs[1][i] op ..., folded from left to right, in one pass over memory.
//
// avg sums, then divides by `divisor` (integers truncate towards zero); the other ops ignore it.
// Integer sums and products wrap. f16 and bf16 are folded in f32 and rounded once, to nearest even.
// min and max return NaN when either side is NaN. `out` may be one of the inputs; otherwise buffers
// must not overlap. Any alignment. At least one input. Runs in the calling thread; safe from any
// thread.
void reduce(void* out, std::span<const void* const> inputs, Elems count, DType dtype, ReduceOp op,
            std::int64_t divisor = 1);

}  // namespace weft::kernels
