#include "kernels/cuda/reach.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <string>

#include "kernels/base/error.h"
#include "kernels/cuda/runtime.h"
#include "kernels/cuda/status.h"

namespace weft::kernels::cuda {
namespace {

// Devices map memory in pages of this size, in a range of addresses that is theirs alone.
constexpr std::uintptr_t kPageBits = 21;
constexpr std::size_t kPages = 4096;

// Page numbers and, in the low byte, whose: one entry for all pages of the same remainder.
std::array<std::atomic<std::uintptr_t>, kPages>& known_pages() {
  static std::array<std::atomic<std::uintptr_t>, kPages> pages{};
  return pages;
}

// The device whose memory it is known to be, or -1.
int known_device(std::uintptr_t page) {
  const auto entry = known_pages()[page % kPages].load(std::memory_order_relaxed);
  return entry >> 8 == page && entry != 0 ? static_cast<int>(entry & 0xff) - 1 : -1;
}

void remember(std::uintptr_t page, int device) {
  if (device < 0 || device >= 0xff) return;
  known_pages()[page % kPages].store(page << 8 | static_cast<std::uintptr_t>(device + 1),
                                     std::memory_order_relaxed);
}

// What is wrong with it, or empty.
std::string complaint(const void* data) {
  const auto page = reinterpret_cast<std::uintptr_t>(data) >> kPageBits;
  static const bool several = device_count() > 1;
  int device = known_device(page);
  if (device < 0) {
    PointerInfo info = pointer_info(data);
    if (info.kind == MemoryKind::unknown) {
      info = pointer_info(static_cast<const std::byte*>(data) - 1);
      if (info.kind == MemoryKind::unknown) {
        if (device_count() == 0) unsupported("a CUDA kernel: " + reason_for_none());
        return "host memory that is not pinned, or memory that was freed";
      }
      return {};
    }
    if (info.kind != MemoryKind::device) return {};
    device = info.device;
    remember(page, device);
  }
  if (!several) return {};
  const int here = current_device();
  if (device == here || can_access_peer(here, device)) return {};
  return fmt::format("memory of device {}, to which the current device has no path", device);
}

}  // namespace

void check_reachable(const void* data, const void* kernel, int argument) {
  if (data == nullptr) return;
  const std::string what = complaint(data);
  if (what.empty()) return;
  fail<InvalidArgument>(
      "launch of {}: argument {} has a pointer ({}) to {}; a kernel on device {} cannot use it. "
      "Pass memory of that device (a tensor's on cuda, or allocate()'s), or pinned memory.",
      kernel_name(kernel), argument, data, what, current_device());
}

void check_reachable(const void* data, const char* operation, const char* name) {
  if (data == nullptr) return;
  const std::string what = complaint(data);
  if (what.empty()) return;
  fail<InvalidArgument>(
      "CUDA {}: {} ({}) is {}; device {} cannot use it. Pass memory of that device (a tensor's on "
      "cuda, or allocate()'s), or pinned memory.",
      operation, name, data, what, current_device());
}

}  // namespace weft::kernels::cuda
