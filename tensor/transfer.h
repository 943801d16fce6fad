// Bytes between host and device, and between devices. For the tensor room only.
#pragma once

#include "tensor/storage.h"

namespace weft::tensor {

enum class Blocking : bool { no, yes };

// A contiguous run of bytes in a storage.
struct Run {
  const Storage& storage;
  std::int64_t begin = 0;  // bytes
  std::byte* data() const { return storage.data() + begin; }
};

// Copies `bytes` between storages of which one at least lies on a CUDA device. The device's part is
// in the order of its current stream (both devices' where there are two). Afterwards the source may
// be written to, and host memory holds what was copied; with Blocking::no and pinned host memory
// both are true only once the stream has got there. Host memory that is not pinned goes through
// pinned buffers by pieces. InvalidArgument while the stream is captured into a graph, unless both
// lie on one device.
void transfer(Run to, Run from, Bytes bytes, Blocking blocking = Blocking::yes);

// The same out of device memory, into host memory of nobody's storage; waits.
void read_from_device(void* to, Run from, Bytes bytes);

}  // namespace weft::tensor
