// What kernels report bad indices to: shared by device code (faults.cuh) and the host (faults.cc).
#pragma once

#include <cstdint>

#include "kernels/cuda/faults.h"

namespace weft::kernels::cuda {

// The first fault of a device, in pinned memory of the host that its kernels write. Their atomics
// on it are atomic among the threads of that device, which suffices. `order` is that of the
// operations as the host queued them.
struct FaultRecord {
  unsigned taken = 0;  // 1 while one thread writes
  FaultKind kind = FaultKind::none;
  unsigned long long order = 0;
  std::int64_t position = 0, index = 0, bound = 0, ignored = 0;
};

// What a kernel is given to report to.
struct FaultSink {
  FaultRecord* record = nullptr;
  FaultKind kind = FaultKind::none;
  unsigned long long order = 0;
  std::int64_t bound = 0;    // indices are 0 .. bound - 1
  std::int64_t ignored = 0;  // or, for cross_entropy, this
};

// For the current device; its record is made when first asked for.
FaultSink fault_sink(FaultKind kind, std::int64_t bound, std::int64_t ignored = 0);

}  // namespace weft::kernels::cuda
