// The collective kernels for i64 and i32.
#include "kernels/cuda/collective_launch.cuh"

namespace weft::kernels::cuda::collective {

template void launch_program<std::int64_t>(const Party&, const CollectiveCall&, void*);
template void launch_small<std::int64_t>(const Party&, const SmallCall&, void*);
template int program_blocks_max<std::int64_t>();
template void launch_program<std::int32_t>(const Party&, const CollectiveCall&, void*);
template void launch_small<std::int32_t>(const Party&, const SmallCall&, void*);
template int program_blocks_max<std::int32_t>();

}  // namespace weft::kernels::cuda::collective
