// Launches of the kernels whose elements are T; each pair of types is compiled in a file of its
// own.
#pragma once

#include "kernels/cuda/collective_program.cuh"
#include "kernels/cuda/collective_small.cuh"
#include "kernels/cuda/collective_types.h"

namespace weft::kernels::cuda::collective {

// Not cooperative launches, which a driver may run one after the other: a lane waits for the same
// lane of other members alone, so blocks of one kernel need not run together, and the host sees to
// it that the lanes of all kernels that wait for each other fit the device.

template <class T>
void launch_program(const Party& party, const CollectiveCall& call, void* stream) {
  launch(run_program<T>,
         Shape{static_cast<unsigned>(call.lanes), static_cast<unsigned>(call.threads)}, stream,
         party, call);
}

template <class T>
void launch_small(const Party& party, const SmallCall& call, void* stream) {
  launch(run_small_call<T>,
         Shape{static_cast<unsigned>(call.lanes), static_cast<unsigned>(call.threads)}, stream,
         party, call);
}

template <class T>
int program_blocks_max() {
  return resident_blocks(run_program<T>, static_cast<unsigned>(kLaneThreadsMax));
}

}  // namespace weft::kernels::cuda::collective
