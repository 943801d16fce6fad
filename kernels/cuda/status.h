// Errors of the CUDA backend, with plain types: device code's files include no fmt. Defined in
// kernels/cuda/status.cc.
#pragma once

#include <string>

namespace weft::kernels::cuda {

// Throws unless `code`, a cudaError_t, is success; `operation` says what was attempted ("the CUDA
// softmax kernel"). Unsupported where there is no device or no usable driver, InvalidArgument for
// what the caller did (a device index out of range; for host pointers passed as a device's see
// kernels/cuda/reach.h), else IoError. Errors that a device keeps (a kernel that failed) say so.
void check(int code, const char* operation);
// The same for a launch: the message also names the kernel, its grid, its block and its shared
// memory.
struct LaunchShape {
  unsigned grid[3] = {1, 1, 1}, block[3] = {1, 1, 1};
  unsigned shared_bytes = 0;
  bool cooperative = false;
};
void check_launch(int code, const void* kernel, const LaunchShape& shape);
std::string kernel_name(const void* kernel);  // as the compiler calls it

// A request that is the caller's mistake (InvalidArgument), and one that this backend does not
// serve (Unsupported). The message says what was expected, what was found and what to do.
[[noreturn]] void refuse(const std::string& message);
[[noreturn]] void unsupported(const std::string& message);

// Of the current device, asked once: how many blocks run at a time is a multiple of it.
int multiprocessors();

}  // namespace weft::kernels::cuda
