// Reductions of floating types, and the entry point for all.
#include "kernels/cuda/reduce.h"

#include <string>

#include "kernels/cuda/list_checks.h"
#include "kernels/cuda/reduce_list.cuh"

namespace weft::kernels::cuda {

void reduce_floating(DType dtype, ReduceOp op, const ReduceCall& call) {
  dispatch(dtype, [&]<class T>() {
    if constexpr (is_floating(dtype_of<T>)) launch_reduce<T>(op, call);
  });
}

void reduce(void* out, std::span<const void* const> inputs, Elems count, DType dtype, ReduceOp op,
            std::int64_t divisor, Stream stream) {
  if (inputs.empty() || inputs.size() > kReduceInputsMax) {
    refuse("CUDA reduce: " + std::to_string(inputs.size()) + " inputs: expected 1 to " +
           std::to_string(kReduceInputsMax) + ".");
  }
  if (op == ReduceOp::avg && divisor < 1) {
    refuse("CUDA reduce: avg with divisor " + std::to_string(divisor) + ": expected at least 1.");
  }
  if (count.value <= 0) return;
  check_present("reduce", 0, "the output", out, dtype);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    check_present("reduce", i, "the input", inputs[i], dtype);
  }
  if (inputs.size() == 1 && out == inputs[0] && op != ReduceOp::avg) return;
  const ReduceCall call{out, inputs, count.value, op == ReduceOp::avg ? divisor : 1, stream};
  is_floating(dtype) ? reduce_floating(dtype, op, call) : reduce_integers(dtype, op, call);
}

}  // namespace weft::kernels::cuda
