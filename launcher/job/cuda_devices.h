// How many CUDA devices this build of weft can use here.
#pragma once

namespace weft::launcher {

int cuda_device_count();

}  // namespace weft::launcher
