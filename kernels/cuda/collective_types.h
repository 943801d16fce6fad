// What collective_*.cu define for each element type, and collective.cc chooses from.
#pragma once

#include "kernels/cuda/collective.h"

namespace weft::kernels::cuda::collective {

template <class T>
void launch_program(const Party& party, const CollectiveCall& call, void* stream);
template <class T>
void launch_small(const Party& party, const SmallCall& call, void* stream);
template <class T>
int program_blocks_max();

}  // namespace weft::kernels::cuda::collective
