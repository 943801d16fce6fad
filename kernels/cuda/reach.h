// Which memory kernels of the current device can use: asked before a launch, since a kernel that
// finds out costs the process its device.
#pragma once

namespace weft::kernels::cuda {

// InvalidArgument where kernels of the current device cannot follow `data`: pageable memory of the
// host (whatever a system with HMM makes of it), freed memory, memory of a device without a path to
// this one. nullptr and one past the end of an allocation pass. Nanoseconds for memory of devices,
// pages of which are remembered; a question to the driver else. `kernel` and `argument` are for the
// message.
void check_reachable(const void* data, const void* kernel, int argument);
// The same for what `operation` gets as `name`: a library's function in place of a kernel.
void check_reachable(const void* data, const char* operation, const char* name);

}  // namespace weft::kernels::cuda
