#include "launcher/job/cuda_devices.h"

namespace weft::launcher {

// Tensors and collectives run on the CPU only in this version, whatever `weft info` finds.
int cuda_device_count() { return 0; }

}  // namespace weft::launcher
