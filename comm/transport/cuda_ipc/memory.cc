#include "comm/transport/cuda_ipc/memory.h"

#include <unistd.h>

#include <cstring>
#include <map>
#include <mutex>

#include "kernels/base/error.h"
#include "kernels/cuda/runtime.h"

namespace weft::comm::cuda_ipc {

namespace {

namespace cuda = kernels::cuda;

// What this process offers to threads of its own.
struct Offered {
  std::mutex mutex;
  std::uint64_t next = 1;
  std::map<std::uint64_t, std::weak_ptr<std::byte>> memory;
};

Offered& offered() {
  static Offered all;
  return all;
}

Mapping map_own(const Invitation& invitation, int device) {
  Mapping mapping;
  {
    const std::lock_guard lock(offered().mutex);
    if (const auto it = offered().memory.find(invitation.id); it != offered().memory.end()) {
      mapping = it->second.lock();
    }
  }
  if (!mapping) {
    fail<IoError>("device memory {} of process {} is gone: its owner ended meanwhile",
                  invitation.id, invitation.pid);
  }
  if (invitation.device != device) cuda::enable_peer_access(device, invitation.device);
  return mapping;
}

}  // namespace

SharedMemory::SharedMemory(int device, Bytes bytes) {
  const cuda::DeviceGuard guard(device);
  void* const memory = cuda::allocate(bytes);
  const auto id = [&] {
    const std::lock_guard lock(offered().mutex);
    return offered().next++;
  }();
  mapping_ = Mapping(static_cast<std::byte*>(memory), [device, id](std::byte* data) {
    {
      const std::lock_guard lock(offered().mutex);
      offered().memory.erase(id);
    }
    const cuda::DeviceGuard at_home(device);
    cuda::release(data);
  });
  const cuda::OwnedStream stream;
  cuda::fill_zero(memory, bytes, stream.get());
  stream.synchronize();
  invitation_.pid = ::getpid();
  invitation_.id = id;
  invitation_.bytes = bytes.value;
  invitation_.device = device;
  const std::lock_guard lock(offered().mutex);
  offered().memory[id] = mapping_;
}

void SharedMemory::offer_to_processes() {
  const cuda::DeviceGuard guard(invitation_.device);
  const cuda::IpcHandle handle = cuda::export_memory(mapping_.get());
  static_assert(sizeof handle == sizeof invitation_.handle);
  std::memcpy(invitation_.handle.data(), &handle, sizeof handle);
  invitation_.has_handle = 1;
}

Mapping map_memory(const Invitation& invitation, int device) {
  if (invitation.pid == ::getpid()) return map_own(invitation, device);
  if (invitation.has_handle == 0) {
    fail<IoError>("process {} offers its device memory to threads of its own alone",
                  invitation.pid);
  }
  const cuda::DeviceGuard guard(device);
  cuda::IpcHandle handle;
  std::memcpy(&handle, invitation.handle.data(), sizeof handle);
  void* const memory = cuda::import_memory(handle);
  return {static_cast<std::byte*>(memory), [device](std::byte* data) {
            const cuda::DeviceGuard at_home(device);
            cuda::close_imported(data);
          }};
}

}  // namespace weft::comm::cuda_ipc
