// Host memory for tensors: 64-byte aligned blocks, freed ones kept by size class.
//
// A training step asks for the same sizes again and again, and fresh memory from the operating
// system costs a page fault per 4 KiB; so freed blocks are kept, up to a limit, and given out again
// as they are (not cleared). Size classes are four to a power of two: at most a quarter of a block
// is unused. Blocks of 8 MiB and more are aligned to 2 MiB and advised
// as huge pages. Safe from any thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/base/units.h"

namespace weft::tensor {

inline constexpr std::size_t kStorageAlignment = 64;

struct CpuMemoryStats {
  Bytes in_use;                         // handed out, rounded up to size classes
  Bytes cached;                         // freed and kept
  Bytes peak_in_use;                    // since the process began
  Bytes asked;                          // as in_use, as it was asked for: not rounded up
  Bytes peak_asked;                     // since the process began, or reset_cpu_memory_peak()
  std::int64_t system_allocations = 0;  // times the operating system was asked
};

// `bytes` > 0. IoError names the size asked for and what is in use, when memory is exhausted even
// after trimming.
std::byte* allocate_cpu_memory(Bytes bytes);
// A block of allocate_cpu_memory(bytes), with the same `bytes`.
void free_cpu_memory(std::byte* block, Bytes bytes) noexcept;

CpuMemoryStats cpu_memory_stats();
void reset_cpu_memory_peak();  // of peak_asked alone: peak_in_use bounds what is kept
// Gives kept blocks back to the operating system until at most `keep` remain.
void trim_cpu_memory(Bytes keep = Bytes(0));
// How much may be kept: a quarter of this machine's memory unless set; in any case no more than
// lets the process hold twice its peak use (and 64 MiB), so that sizes that change all the time do
// not pile up. Beyond it, the classes used least recently are given back first. 0 keeps nothing.
void set_cpu_memory_limit(Bytes limit);

}  // namespace weft::tensor
