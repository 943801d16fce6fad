#include <cuda_runtime_api.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <mutex>
#include <tuple>

#include "tests/emulator/devices.h"
#include "tests/emulator/event.h"
#include "tests/emulator/failure.h"
#include "tests/emulator/host_memory.h"
#include "tests/emulator/memory.h"
#include "tests/emulator/shared_file.h"
#include "tests/emulator/stream.h"

namespace weft::emulated {
namespace {

constexpr std::size_t kPage = 4096;

// WEFT_EMULATED_IPC=0: a system that refuses, as containers do.
bool allowed() {
  static const bool yes = setting("WEFT_EMULATED_IPC", 1, 0) != 0;
  return yes;
}

// Memory opened from others: opened again, it is the same mapping.
struct Opened {
  using Key = std::tuple<std::int32_t, std::int32_t, std::uint64_t, std::uint64_t>;
  struct Use {
    std::byte* data = nullptr;
    int count = 0;
  };
  std::mutex mutex;
  std::map<Key, Use> by_place;
};
Opened& opened() {
  static auto* const all = new Opened;
  return *all;
}

// Events of this process that others may open: one file, handed out slot by slot.
class EventFile {
 public:
  static constexpr std::size_t kSlots = 16384;
  EventFile() {
    file_ = memfd_create("weft-emulated-events", MFD_CLOEXEC);
    const std::size_t bytes = kSlots * sizeof(SharedEvent::Words);
    if (file_ < 0 || ftruncate(file_, static_cast<off_t>(bytes)) != 0) std::abort();
    void* const data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
    if (data == MAP_FAILED) std::abort();
    words_ = static_cast<SharedEvent::Words*>(data);
  }
  SharedEvent::Words* take() {
    const std::lock_guard lock(mutex_);
    return next_ < kSlots ? &words_[next_++] : nullptr;
  }
  int file() const { return file_; }
  std::size_t offset_of(const SharedEvent::Words* words) const {
    return static_cast<std::size_t>(words - words_) * sizeof(SharedEvent::Words);
  }
  bool holds(const SharedEvent::Words* words) const {
    return words >= words_ && words < words_ + kSlots;
  }

 private:
  std::mutex mutex_;
  int file_ = -1;
  SharedEvent::Words* words_ = nullptr;
  std::size_t next_ = 0;
};
EventFile& event_file() {
  static auto* const file = new EventFile;
  return *file;
}

long futex(std::atomic<std::uint32_t>* word, int operation, std::uint32_t value,
           const timespec* timeout) {
  return syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(word), operation, value, timeout,
                 nullptr, 0);
}

template <class Handle>
Handle to_handle(const SharedPlace& place) {
  Handle handle{};
  std::memcpy(handle.reserved, &place, sizeof place);
  return handle;
}
template <class Handle>
SharedPlace from_handle(const Handle& handle) {
  SharedPlace place;
  std::memcpy(&place, handle.reserved, sizeof place);
  return place;
}

}  // namespace

std::uint64_t inode_of(int file) {
  struct stat status {};
  return fstat(file, &status) == 0 ? status.st_ino : 0;
}

std::byte* map_place(const SharedPlace& place, void*& mapping, std::size_t& mapped_bytes) {
  char path[64];
  std::snprintf(path, sizeof path, "/proc/%d/fd/%d", place.pid, place.file);
  const int file = open(path, O_RDWR | O_CLOEXEC);
  if (file < 0) return nullptr;
  std::byte* data = nullptr;
  if (inode_of(file) == place.inode) {
    const std::size_t begin = place.offset / kPage * kPage;
    mapped_bytes = (place.offset + place.bytes - begin + kPage - 1) / kPage * kPage;
    mapping = mmap(nullptr, mapped_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file,
                   static_cast<off_t>(begin));
    if (mapping != MAP_FAILED) data = static_cast<std::byte*>(mapping) + (place.offset - begin);
  }
  close(file);
  return data;
}

SharedEvent::~SharedEvent() {
  if (mapping_ != nullptr) munmap(mapping_, bytes_);
}

void SharedEvent::end(std::uint32_t number) {
  if (!reached(number)) words_->ended.store(number);
  futex(&words_->ended, FUTEX_WAKE, INT_MAX, nullptr);
}

void SharedEvent::wait(std::uint32_t number) {
  const timespec a_while{0, 50'000'000};  // wakes are for speed, not for correctness
  while (!reached(number)) {
    const std::uint32_t seen = words_->ended.load();
    if (static_cast<std::int32_t>(seen - number) < 0) {
      futex(&words_->ended, FUTEX_WAIT, seen, &a_while);
    }
  }
}

std::shared_ptr<SharedEvent> make_shared_event() {
  auto* const words = event_file().take();
  if (words == nullptr) return nullptr;
  return std::make_shared<SharedEvent>(words, nullptr, 0);
}

}  // namespace weft::emulated

using namespace weft::emulated;

extern "C" {

cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t* handle, void* pointer) {
  if (const auto error = usable(); error != cudaSuccess) return say(error);
  if (!allowed()) return say(cudaErrorNotSupported);
  for (int device = 0; device < devices(); ++device) {
    const auto found = arena_of(device).find(pointer);
    if (!found) continue;
    const int file = arena_of(device).file();
    *handle = to_handle<cudaIpcMemHandle_t>(
        {kMemoryMagic, getpid(), file, device, inode_of(file), found->offset, found->bytes});
    return cudaSuccess;
  }
  return say(cudaErrorInvalidValue);
}

cudaError_t cudaIpcOpenMemHandle(void** pointer, cudaIpcMemHandle_t handle, unsigned flags) {
  if (const auto error = usable(); error != cudaSuccess) return say(error);
  if (!allowed()) return say(cudaErrorMapBufferObjectFailed);
  const auto place = from_handle(handle);
  if (place.magic != kMemoryMagic || flags != cudaIpcMemLazyEnablePeerAccess) {
    return say(cudaErrorInvalidValue);
  }
  if (place.pid == getpid()) return say(cudaErrorDeviceUninitialized);
  if (!valid_device(place.device)) return say(cudaErrorInvalidDevice);
  int joined = 0;
  if (place.device != current_device() &&
      (cudaDeviceCanAccessPeer(&joined, current_device(), place.device) != cudaSuccess ||
       joined == 0)) {
    return say(cudaErrorMapBufferObjectFailed);
  }
  const std::lock_guard lock(opened().mutex);
  auto& use = opened().by_place[{place.pid, place.file, place.inode, place.offset}];
  if (use.count == 0) {
    void* mapping = nullptr;
    std::size_t bytes = 0;
    use.data = map_place(place, mapping, bytes);
    if (use.data == nullptr) return say(cudaErrorMapBufferObjectFailed);
    ranges().add({use.data, place.bytes, RangeKind::mapped, place.device, mapping, bytes});
  }
  ++use.count;
  *pointer = use.data;
  return cudaSuccess;
}

cudaError_t cudaIpcCloseMemHandle(void* pointer) {
  for (int device = 0; device < devices(); ++device) synchronize_all(device);
  const std::lock_guard lock(opened().mutex);
  for (auto it = opened().by_place.begin(); it != opened().by_place.end(); ++it) {
    if (it->second.data != pointer || it->second.count == 0) continue;
    if (--it->second.count > 0) return cudaSuccess;
    if (const auto range = ranges().remove(pointer, RangeKind::mapped)) {
      munmap(range->owned, range->owned_bytes);
    }
    opened().by_place.erase(it);
    return cudaSuccess;
  }
  return say(cudaErrorInvalidValue);
}

cudaError_t cudaIpcGetEventHandle(cudaIpcEventHandle_t* handle, cudaEvent_t event) {
  if (const auto error = usable(); error != cudaSuccess) return say(error);
  if (!allowed()) return say(cudaErrorNotSupported);
  if (!live_event(event) || event->shared == nullptr ||
      !event_file().holds(event->shared->words())) {
    return say(cudaErrorInvalidResourceHandle);
  }
  const int file = event_file().file();
  *handle = to_handle<cudaIpcEventHandle_t>(
      {kEventMagic, getpid(), file, event->device, inode_of(file),
       event_file().offset_of(event->shared->words()), sizeof(SharedEvent::Words)});
  return cudaSuccess;
}

cudaError_t cudaIpcOpenEventHandle(cudaEvent_t* event, cudaIpcEventHandle_t handle) {
  if (const auto error = usable(); error != cudaSuccess) return say(error);
  if (!allowed()) return say(cudaErrorMapBufferObjectFailed);
  const auto place = from_handle(handle);
  if (place.magic != kEventMagic) return say(cudaErrorInvalidValue);
  if (place.pid == getpid()) return say(cudaErrorDeviceUninitialized);
  void* mapping = nullptr;
  std::size_t bytes = 0;
  auto* const words = reinterpret_cast<SharedEvent::Words*>(map_place(place, mapping, bytes));
  if (words == nullptr) return say(cudaErrorMapBufferObjectFailed);
  *event = new_event(current_device(), false, std::make_shared<SharedEvent>(words, mapping, bytes));
  return cudaSuccess;
}

}  // extern "C"
