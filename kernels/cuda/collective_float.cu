// The collective kernels for f64 and f32.
#include "kernels/cuda/collective_launch.cuh"

namespace weft::kernels::cuda::collective {

template void launch_program<double>(const Party&, const CollectiveCall&, void*);
template void launch_small<double>(const Party&, const SmallCall&, void*);
template int program_blocks_max<double>();
template void launch_program<float>(const Party&, const CollectiveCall&, void*);
template void launch_small<float>(const Party&, const SmallCall&, void*);
template int program_blocks_max<float>();

}  // namespace weft::kernels::cuda::collective
