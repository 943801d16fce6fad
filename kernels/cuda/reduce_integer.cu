// Reductions of integers.
#include "kernels/cuda/reduce_list.cuh"

namespace weft::kernels::cuda {

void reduce_integers(DType dtype, ReduceOp op, const ReduceCall& call) {
  dispatch(dtype, [&]<class T>() {
    if constexpr (!is_floating(dtype_of<T>)) launch_reduce<T>(op, call);
  });
}

}  // namespace weft::kernels::cuda
