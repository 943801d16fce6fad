// Device memory that one operation needs between its kernels.
//
// Ordered by the stream: taken before the kernels are queued, given back right after, to be used
// again by work that is queued later on the same stream. From the CUDA runtime's pools
// (cudaMallocAsync) until a caching allocator takes over. Works while a stream is captured.
#pragma once

#include "kernels/base/units.h"
#include "kernels/cuda/stream.h"

namespace weft::kernels::cuda {

// allocate throws where it cannot; both may be called from any thread, for the current device.
struct ScratchSource {
  void* (*allocate)(Bytes bytes, Stream stream) = nullptr;
  void (*release)(void* data, Bytes bytes, Stream stream) noexcept = nullptr;
};
// Before the first use, or while none is in use; {} is the CUDA runtime's again.
void set_scratch_source(ScratchSource source);

class Scratch {
 public:
  Scratch(Bytes bytes, Stream stream);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  void* data() const { return data_; }  // nullptr for 0 bytes; aligned to 256
  Bytes bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  Bytes bytes_;
  [[maybe_unused]] Stream stream_;  // no_cuda has no use for it
  ScratchSource source_;
};

}  // namespace weft::kernels::cuda
