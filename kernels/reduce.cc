#include "kernels/reduce.h"

namespace weft {

std::string_view name_of(ReduceOp op) {
  switch (op) {
    case ReduceOp::sum:
      return "sum";
    case ReduceOp::prod:
      return "prod";
    case ReduceOp::min:
      return "min";
    case ReduceOp::max:
      return "max";
    case ReduceOp::avg:
      return "avg";
  }
  return "unknown";
}

std::optional<ReduceOp> parse_reduce_op(std::string_view name) {
  for (int i = 0; i < kReduceOpCount; ++i) {
    if (const auto op = static_cast<ReduceOp>(i); name_of(op) == name) return op;
  }
  return std::nullopt;
}

}  // namespace weft
