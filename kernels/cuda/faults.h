// Indices that only the device can see to be wrong: a target that is no class, a token beyond the
// table.
//
// The CPU's kernels look before they work and throw. On a device nothing waits for that: a kernel
// that meets such an index notes the first one in its device's fault record, puts zeros (embedding)
// or NaN (losses) in its place, reads and writes nothing out of bounds, and goes on. Whoever waits
// for the device then asks check_faults(), which throws what the CPU would have thrown.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"

namespace weft::kernels::cuda {

enum class FaultKind : std::uint32_t { none, embedding, cross_entropy, max_axis_backward };

// InvalidArgument, naming operation, index, position and range, if a kernel that has finished on
// the current device met a bad index since the last call that threw. The earliest operation queued
// and the lowest position in it are told. Costs the read of one word of host memory while there is
// none. To be called after waiting for the device: reading a loss, synchronising, copying to the
// host.
void check_faults();

}  // namespace weft::kernels::cuda
