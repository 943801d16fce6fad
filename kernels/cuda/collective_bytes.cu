// The collective kernels for u8, and for whatever is only copied.
#include "kernels/cuda/collective_launch.cuh"

namespace weft::kernels::cuda::collective {

template void launch_program<std::uint8_t>(const Party&, const CollectiveCall&, void*);
template void launch_small<std::uint8_t>(const Party&, const SmallCall&, void*);
template int program_blocks_max<std::uint8_t>();

}  // namespace weft::kernels::cuda::collective
