// From a call's type to the kernel that serves it.
#include "kernels/cuda/collective.h"

#include "kernels/base/dtype.h"
#include "kernels/cuda/collective_types.h"

namespace weft::kernels::cuda {

void run_collective(const Party& party, const CollectiveCall& call, void* stream) {
  dispatch(call.dtype, [&]<class T>() { collective::launch_program<T>(party, call, stream); });
}

void run_small(const Party& party, const SmallCall& call, void* stream) {
  dispatch(call.dtype, [&]<class T>() { collective::launch_small<T>(party, call, stream); });
}

int collective_blocks_max(DType dtype) {
  return dispatch(dtype, []<class T>() { return collective::program_blocks_max<T>(); });
}

}  // namespace weft::kernels::cuda
