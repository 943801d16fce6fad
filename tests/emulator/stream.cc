#include "tests/emulator/stream.h"

#include "tests/emulator/devices.h"

namespace weft::emulated {

cudaError_t enqueue(cudaStream_t, std::function<void()> work) {
  if (const auto error = usable(); error != cudaSuccess) return say(error);
  work();
  return cudaSuccess;
}

void synchronize_all(int) {}

}  // namespace weft::emulated

using namespace weft::emulated;

extern "C" {

cudaError_t cudaDeviceSynchronize() { return say(usable()); }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return say(usable()); }

}  // extern "C"
