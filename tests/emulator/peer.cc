// Access to the memory of other devices. WEFT_EMULATED_PEER=0: no two devices are joined.
#include <cuda_runtime_api.h>

#include <array>
#include <atomic>

#include "tests/emulator/devices.h"
#include "tests/emulator/failure.h"

namespace weft::emulated {
namespace {

constexpr std::size_t kDevicesMax = 64;

std::atomic<bool>& enabled(int device, int peer) {
  static auto* const all =
      new std::array<std::array<std::atomic<bool>, kDevicesMax>, kDevicesMax>{};
  return (*all)[static_cast<std::size_t>(device) % kDevicesMax]
               [static_cast<std::size_t>(peer) % kDevicesMax];
}

bool joined() {
  static const bool yes = setting("WEFT_EMULATED_PEER", 1, 0) != 0;
  return yes;
}

}  // namespace

bool peer_enabled(int device, int peer) { return device == peer || enabled(device, peer); }

}  // namespace weft::emulated

using namespace weft::emulated;

extern "C" {

cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
  if (!valid_device(device) || !valid_device(peer)) return say(cudaErrorInvalidDevice);
  *can = device != peer && joined() ? 1 : 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags) {
  if (const auto error = usable(); error != cudaSuccess) return say(error);
  if (!valid_device(peer) || peer == current_device()) return say(cudaErrorInvalidDevice);
  if (flags != 0) return say(cudaErrorInvalidValue);
  if (!joined()) return say(cudaErrorPeerAccessUnsupported);
  const bool before = enabled(current_device(), peer).exchange(true);
  return say(before ? cudaErrorPeerAccessAlreadyEnabled : cudaSuccess);
}

cudaError_t cudaDeviceDisablePeerAccess(int peer) {
  if (!valid_device(peer)) return say(cudaErrorInvalidDevice);
  const bool before = enabled(current_device(), peer).exchange(false);
  return say(before ? cudaSuccess : cudaErrorPeerAccessNotEnabled);
}

}  // extern "C"
