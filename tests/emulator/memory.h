// Memory of the emulated devices, and what the runtime knows about any pointer.
//
// Each device owns a range of addresses backed by one memfd, so that another process can map an
// allocation. Fresh memory holds 0xFF in every byte (NaN in every floating type), zones before and
// behind each allocation hold a pattern that is checked when it is freed and when the process ends.
// WEFT_EMULATED_MEMORY is the size of a device's memory in bytes (1 GiB unless set).
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <string>

namespace weft::emulated {

inline constexpr int kMemoryPoison = 0xFF;

// Whether all of these bytes belong to live memory that device code may use: of a device, pinned,
// or mapped from another process.
bool device_memory_holds(const void* address, std::size_t bytes);

// "0x7f.. (host memory that is not pinned)", "0x7f.. (freed or never allocated memory of device
// 0)".
std::string describe(const void* address);

cudaPointerAttributes attributes_of(const void* pointer);

// Checks the guard zones of every live allocation; false, with the text remembered, where one was
// written to.
bool guards_hold();

}  // namespace weft::emulated
