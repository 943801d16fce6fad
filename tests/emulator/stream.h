// Streams: what is queued on one runs in order.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>

namespace weft::emulated {

// Queues `work` on the stream (nullptr: the current device's default one).
cudaError_t enqueue(cudaStream_t stream, std::function<void()> work);
// Waits for everything that is queued on the device.
void synchronize_all(int device);

}  // namespace weft::emulated
