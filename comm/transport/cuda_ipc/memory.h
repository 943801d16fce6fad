// Device memory that other members address, too: threads of this process by its pointer (through
// peer access where it is on another device), other processes of this host through a CUDA IPC
// handle.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/base/units.h"

namespace weft::comm::cuda_ipc {

// Memory as it is mapped here, together with what unmaps it.
using Mapping = std::shared_ptr<std::byte>;

// How another member finds it. Plain bytes: it travels as it is.
struct Invitation {
  std::int64_t pid = 0;
  std::uint64_t id = 0;  // in that process
  std::int64_t bytes = 0;
  std::int32_t device = 0;  // of that process
  std::int32_t has_handle = 0;
  std::array<std::byte, 64> handle{};
};

class SharedMemory {
 public:
  // `bytes` of zeros on `device`. Throws IoError, saying how much was asked and what there is.
  SharedMemory(int device, Bytes bytes);
  // Adds an IPC handle to the invitation, for other processes. Throws IoError where the system
  // refuses.
  void offer_to_processes();

  const Mapping& mapping() const { return mapping_; }
  const Invitation& invitation() const { return invitation_; }

 private:
  Mapping mapping_;
  Invitation invitation_;
};

// Maps what another member offers, to be used on `device`. Throws IoError saying why it cannot.
Mapping map_memory(const Invitation& invitation, int device);

}  // namespace weft::comm::cuda_ipc
