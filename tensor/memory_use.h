// What a rank's memory goes to. One set of numbers, whether predicted (`weft plan`, docs/plan.md)
// or counted while training, so that the two can be laid side by side.
#pragma once

#include <string>

#include "kernels/base/units.h"
#include "tensor/storage.h"

namespace weft::tensor {

// Of one rank, on the device that it trains on.
struct MemoryUse {
  Bytes parameters;   // kept between steps: all of them, or the rank's shards
  Bytes gradients;    // likewise, as they are when an update begins
  Bytes optimizer;    // moments, and master copies of half parameters
  Bytes gathered;     // the most that units gathered from their shards take at once (stage 3)
  Bytes activations;  // the most that a step needs beside the above: what forward keeps for
                      // backward, gradients on their way, batches
  Bytes peak;         // the most at any one time; at most the sum of the above
  Bytes host;         // of parameters and optimizer: kept in host memory instead (offload), and not
                      // counted above

  Bytes state() const { return parameters + gradients + optimizer; }
};

// "parameters 475 MiB, gradients 475 MiB, ..., peak 4.1 GiB": what is zero (gathered, host) is left
// out.
std::string describe(const MemoryUse& use);
// "512 B", "1.5 KiB", "475 MiB", "4.12 GiB": three digits.
std::string describe(Bytes bytes);

// What tensors of this process hold of a device's memory, by the bytes that they asked for (a CUDA
// device: rounded up to 512). Memory that is borrowed (Storage::borrow: symmetric memory, mapped
// files) and what the allocator keeps for later are not in it. Ranks that are threads share the
// counts. Safe from any thread.
struct TensorMemory {
  Bytes now;
  Bytes peak;  // since the process began, or reset_tensor_memory_peak()
};
TensorMemory tensor_memory(Device device = {});
// From here on `peak` starts at what is held now.
void reset_tensor_memory_peak(Device device = {});

}  // namespace weft::tensor

namespace weft {
using tensor::MemoryUse;
}
