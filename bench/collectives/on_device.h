// A rank's place on a device, for programs that measure collectives there.
#pragma once

#include <string>

#include "bench/collectives/buffer.h"
#include "kernels/cuda/runtime.h"

namespace weft::bench {

class OnDevice {
 public:
  // Collective. Throws on all ranks alike what keeps one of them from its device.
  OnDevice(Communicator& communicator, int device)
      : cuda_(communicator.cuda(device)),
        guard_(device),
        stream_(device),
        receiving_(device),
        calls_{cuda_, stream_.get(), receiving_.get()} {}

  const DeviceCalls& calls() const { return calls_; }
  // "memory of NVIDIA H100 ..., through CUDA IPC"; of all ranks where their devices differ.
  // Collective.
  std::string where(Communicator& communicator) const;

 private:
  CudaCommunicator& cuda_;
  kernels::cuda::DeviceGuard guard_;
  kernels::cuda::OwnedStream stream_, receiving_;
  DeviceCalls calls_;
};

// The device of a rank, where ranks are dealt to all there are: several ranks may get one.
int device_of(int rank);
// The same of ranks 0 .. `ranks` - 1, as --devices takes them: "0,1,0,".
std::string devices_of(int ranks);

}  // namespace weft::bench
