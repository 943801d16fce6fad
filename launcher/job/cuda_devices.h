// How many CUDA devices ranks can be placed on: what --accelerator=auto and cuda go by.
#pragma once

namespace weft::launcher {

int cuda_device_count();

}  // namespace weft::launcher
