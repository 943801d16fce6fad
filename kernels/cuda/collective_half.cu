// The collective kernels for f16 and bf16.
#include "kernels/cuda/collective_launch.cuh"

namespace weft::kernels::cuda::collective {

template void launch_program<Half>(const Party&, const CollectiveCall&, void*);
template void launch_small<Half>(const Party&, const SmallCall&, void*);
template int program_blocks_max<Half>();
template void launch_program<BFloat16>(const Party&, const CollectiveCall&, void*);
template void launch_small<BFloat16>(const Party&, const SmallCall&, void*);
template int program_blocks_max<BFloat16>();

}  // namespace weft::kernels::cuda::collective
