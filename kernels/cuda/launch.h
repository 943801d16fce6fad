// What the host asks of device code: each queues one kernel on a cudaStream_t and gives the
// cudaError_t of doing so.
#pragma once

#include <cstdint>

namespace weft::kernels::cuda {

// See cast_from_f32 in kernels/cuda.h; count > 0.
int launch_cast_to_half(void* to, const float* from, std::int64_t count, float scale, void* stream);
int launch_cast_to_bfloat16(void* to, const float* from, std::int64_t count, float scale,
                            void* stream);

}  // namespace weft::kernels::cuda
