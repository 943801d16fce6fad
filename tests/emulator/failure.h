// What a kernel, or a caller of the runtime, did wrong, in words. cudaGetErrorString adds the text
// to the error it belongs to.
#pragma once

#include <string>

namespace weft::emulated {

// Thrown on the stack of a CUDA thread and caught where that began: ends the kernel.
struct KernelFailure {
  std::string text;
};
// Thrown where another thread or block of the launch has failed already.
struct KernelStopped {};

// Keeps the text of the last error, and says it on stderr once.
void remember_failure(const std::string& text);
std::string last_failure();

// Whole seconds, or the default where the variable is unset; a value that is no number ends the
// process with a message, as every misspelt setting of the emulator does.
long long setting(const char* name, long long otherwise, long long least);

// WEFT_EMULATED_ORDER=1: what may run in any order (the threads of a block, blocks, the nodes of a
// graph) runs the latest first instead of the earliest.
bool latest_first();

}  // namespace weft::emulated
