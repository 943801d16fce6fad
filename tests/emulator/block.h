// A thread block on the CPU. Its CUDA threads run one after the other on one OS thread, each to its
// end unless it waits: at a barrier, for the other lanes of its warp, or in pause(). A thread that
// waits keeps its stack (a fiber) and the next one goes on; so a kernel that never waits costs no
// switch at all, and one that does meets every barrier in a fixed order.
//
// Misuse is an error with a text (failure.h), never a hang: a barrier that some thread has ended
// without reaching, lanes that wait for lanes that never come, a lane outside its own mask, kernels
// that wait for longer than WEFT_EMULATED_TIMEOUT seconds (60 unless set).
#pragma once

#include <cstddef>
#include <cstdint>

namespace weft::emulated {

struct Launch;

// Runs every block of the launch in this OS thread, in order; cooperative launches run each block
// on an OS thread of its own. False where the kernel failed: failure.h has the text.
bool run_launch(const Launch& launch);

// ---- for device.h and hardware.cuh; all of them belong to the CUDA thread that runs now

bool inside_kernel();
unsigned lane();
// Waits for every thread of the block; gives the sum of all values.
int sync_threads(int value);
// Each waits for all lanes of `mask` that have not ended. A source that took no part gives poison.
std::uint64_t shuffle(unsigned mask, std::uint64_t value, int source);
unsigned ballot(unsigned mask, bool value);
void sync_warp(unsigned mask);
// Deposits `value` and copies those of all 32 lanes (poison for lanes that took no part): what mma
// and ldmatrix are built on.
void exchange(unsigned mask, std::uint64_t value, std::uint64_t (&all)[32]);
// Lets other threads, blocks and streams run.
void pause();
void* dynamic_shared_memory();
[[noreturn]] void trap(const char* what);
// Traps unless device code may touch these bytes.
void check_access(const void* address, std::size_t bytes);

template <class T, class Change>
T atomic_update(T* address, Change change) {
  T old, wanted;
  __atomic_load(address, &old, __ATOMIC_RELAXED);
  do {
    wanted = change(old);
  } while (!__atomic_compare_exchange(address, &old, &wanted, false, __ATOMIC_ACQ_REL,
                                      __ATOMIC_RELAXED));
  return old;
}

}  // namespace weft::emulated
