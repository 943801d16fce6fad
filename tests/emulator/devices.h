// The emulated devices: how many, which is current, what they may do; and how calls report errors.
#pragma once

#include <cuda_runtime_api.h>

#include <atomic>
#include <memory>
#include <vector>

#include "tests/emulator/arena.h"

namespace weft::emulated {

// Limits of sm_90, but few multiprocessors, so that kernels stride over a grid in small tests.
inline constexpr int kMultiprocessors = 4;
inline constexpr int kThreadsMax = 1024;
inline constexpr std::size_t kSharedBytes = 48 << 10, kSharedBytesOptIn = 227 << 10;

int devices();
int current_device();  // of this thread
bool valid_device(int device);
Arena& arena_of(int device);

// Whether kernels on `device` may use the memory of `peer`.
bool peer_enabled(int device, int peer);

// Success, or why no call can succeed: no device, a kernel that failed earlier, or a
// caller inside cudaLaunchHostFunc.
cudaError_t usable();
// Sets what cudaGetLastError gives; returns it.
cudaError_t say(cudaError_t error);
// An error that every later call gives, as a failed kernel leaves it.
void keep_error(cudaError_t error);
cudaError_t kept();
// For tests of failing kernels: the devices are usable again.
void forget_kept_error();

}  // namespace weft::emulated
