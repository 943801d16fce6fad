// How much memory this process may still take without something being ended for it.
#pragma once

#include <cstdint>
#include <string>

namespace weft::comm {

// Bytes: what the kernel calls available, or what the memory limits of this process's control
// groups leave, whichever is less. Never throws; the largest number where nothing is known.
std::int64_t available_memory();

// What control groups leave: `membership` is /proc/self/cgroup's text, `mount` where the groups are
// (/sys/fs/cgroup). Versions 1 and 2; every group on the way up counts, and file pages that the
// kernel gives back on demand do not.
std::int64_t left_in_cgroups(const std::string& membership, const std::string& mount);

}  // namespace weft::comm
