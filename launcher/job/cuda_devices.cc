// Of a build without the CUDA backend.
#include "launcher/job/cuda_devices.h"

namespace weft::launcher {

int cuda_device_count() { return 0; }

}  // namespace weft::launcher
