// How many CUDA devices ranks can be placed on: what --accelerator=auto and cuda go by.
#pragma once

#include <string>

namespace weft::launcher {

int cuda_device_count();
std::string reason_for_no_cuda();  // empty where there are devices

}  // namespace weft::launcher
