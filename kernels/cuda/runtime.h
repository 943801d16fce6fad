// The CUDA runtime for the floors above: devices, memory and copies, without CUDA's headers.
// kernels/cuda/runtime.cc where the backend is built, else kernels/no_cuda/runtime.cc with the same
// names. Nothing here needs a driver to link, start, or ask how many devices there are.
#pragma once

#include <string>

#include "kernels/base/units.h"
#include "kernels/cuda/stream.h"

namespace weft::kernels::cuda {

// Devices this process can use; 0 where the backend is not built, no driver is installed, or it
// fails. Never throws. reason_for_none() then says which of these it is, and is empty otherwise.
int device_count();
std::string reason_for_none();

struct DeviceInfo {
  std::string name;
  int major = 0, minor = 0;  // compute capability
  Bytes memory;
};
// InvalidArgument for an index outside 0 .. device_count() - 1.
DeviceInfo device_info(int index);

// Device memory and copies for callers without CUDA headers. Errors as Unsupported (no device) or
// IoError, naming the call. copy_* wait until the copy is done, and for the default stream before.
void* allocate(Bytes bytes);
void release(void* data) noexcept;
void copy_to_device(void* to, const void* from, Bytes bytes);
void copy_to_host(void* to, const void* from, Bytes bytes);

}  // namespace weft::kernels::cuda
