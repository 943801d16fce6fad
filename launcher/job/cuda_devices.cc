#include "launcher/job/cuda_devices.h"

#include "kernels/cuda/runtime.h"

namespace weft::launcher {

int cuda_device_count() { return kernels::cuda::device_count(); }

std::string reason_for_no_cuda() { return kernels::cuda::reason_for_none(); }

}  // namespace weft::launcher
