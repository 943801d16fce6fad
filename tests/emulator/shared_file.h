// How one process names a file of another: /proc/PID/fd/N, with the inode to tell whether it is
// still the one that was meant.
#pragma once

#include <cstddef>
#include <cstdint>

namespace weft::emulated {

// What the 64 bytes of an IPC handle hold.
struct SharedPlace {
  std::uint64_t magic = 0;
  std::int32_t pid = 0, file = 0, device = 0;
  std::uint64_t inode = 0, offset = 0, bytes = 0;
};
static_assert(sizeof(SharedPlace) <= 64);
inline constexpr std::uint64_t kMemoryMagic = 0x7765667420697063ull,
                               kEventMagic = 0x7765667420657631ull;

std::uint64_t inode_of(int file);
// Maps the place of another process; nullptr where that is gone or may not be opened. `mapping` and
// `mapped_bytes` are what to unmap.
std::byte* map_place(const SharedPlace& place, void*& mapping, std::size_t& mapped_bytes);

}  // namespace weft::emulated
