#include "tests/emulator/arena.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/emulator/memory.h"
#include "tests/emulator/switch.h"

#if defined(WEFT_ADDRESS_SANITIZER)
#include <sanitizer/asan_interface.h>
#endif

namespace weft::emulated {
namespace {

constexpr std::size_t kGranule = 512;
constexpr std::size_t kGuard = 512;
constexpr int kGuardFill = 0xA5;

std::size_t rounded(std::size_t bytes) { return (bytes + kGranule - 1) / kGranule * kGranule; }

// AddressSanitizer reports an access to what is not live where it happens.
void forbid([[maybe_unused]] const void* address, [[maybe_unused]] std::size_t bytes) {
#if defined(WEFT_ADDRESS_SANITIZER)
  __asan_poison_memory_region(address, bytes);
#endif
}
void allow([[maybe_unused]] const void* address, [[maybe_unused]] std::size_t bytes) {
#if defined(WEFT_ADDRESS_SANITIZER)
  __asan_unpoison_memory_region(address, bytes);
#endif
}

void* map(std::size_t bytes, int flags, int file) {
  void* const address =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, file, 0);
  if (address != MAP_FAILED) return address;
  std::perror("emulated CUDA: mmap of a device's memory");
  std::_Exit(2);
}

}  // namespace

// As `map`, and no page of 2 MiB has anything else in it: as devices have their memory.
constexpr std::size_t kDevicePage = std::size_t{2} << 20;
void* map_pages(std::size_t bytes, int file) {
  auto* const room =
      static_cast<std::byte*>(map(bytes + kDevicePage, MAP_PRIVATE | MAP_ANONYMOUS, -1));
  const auto past = reinterpret_cast<std::uintptr_t>(room) % kDevicePage;
  std::byte* const begin = room + (past == 0 ? 0 : kDevicePage - past);
  void* const address =
      mmap(begin, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, file, 0);
  if (address != MAP_FAILED) return address;
  std::perror("emulated CUDA: mmap of a device's memory");
  std::_Exit(2);
}

// Twice the capacity in addresses: guards, and holes between allocations.
Arena::Arena(int device, std::size_t capacity)
    : device_(device),
      capacity_(capacity),
      reach_((2 * capacity + (16 << 20) + kDevicePage - 1) / kDevicePage * kDevicePage) {
  file_ = memfd_create("weft-emulated-device", MFD_CLOEXEC);
  if (file_ < 0 || ftruncate(file_, static_cast<off_t>(reach_)) != 0) {
    std::perror("emulated CUDA: memfd_create of a device's memory");
    std::_Exit(2);
  }
  base_ = static_cast<std::byte*>(map_pages(reach_, file_));
  granules_ =
      static_cast<std::atomic<bool>*>(map(reach_ / kGranule + 1, MAP_PRIVATE | MAP_ANONYMOUS, -1));
}

void* Arena::allocate(std::size_t bytes) {
  const std::size_t wanted = rounded(bytes);
  const std::lock_guard lock(mutex_);
  if (used_ + wanted > capacity_) return nullptr;
  std::size_t offset = kGuard;
  for (const auto& [start, size] : live_) {
    if (offset + wanted + 2 * kGuard <= start) break;
    offset = start + rounded(size) + 2 * kGuard;
  }
  if (offset + wanted + kGuard > reach_) return nullptr;
  allow(base_ + offset - kGuard, wanted + 2 * kGuard);
  live_[offset] = bytes;
  used_ += wanted;
  std::memset(base_ + offset - kGuard, kGuardFill, kGuard);
  std::memset(base_ + offset, kMemoryPoison, bytes);
  std::memset(base_ + offset + bytes, kGuardFill, wanted - bytes + kGuard);
  forbid(base_ + offset - kGuard, kGuard);
  forbid(base_ + offset + bytes, wanted - bytes + kGuard);
  mark(offset, wanted, true);
  return base_ + offset;
}

bool Arena::release(void* pointer, std::string& damage) {
  const std::lock_guard lock(mutex_);
  if (!contains(pointer)) return false;
  const auto offset = static_cast<std::size_t>(static_cast<std::byte*>(pointer) - base_);
  const auto found = live_.find(offset);
  if (found == live_.end()) return false;
  damage += damage_to(offset, found->second);
  const std::size_t wanted = rounded(found->second);
  mark(offset, wanted, false);
  // Whole pages go back to the system; the rest shows whoever still reads it.
  const std::size_t page = 4096;
  const std::size_t from = (offset + page - 1) / page * page, to = (offset + wanted) / page * page;
  allow(base_ + offset, wanted);
  std::memset(base_ + offset, kMemoryPoison, from < to ? from - offset : wanted);
  if (from < to) {
    std::memset(base_ + to, kMemoryPoison, offset + wanted - to);
    madvise(base_ + from, to - from, MADV_REMOVE);
  }
  forbid(base_ + offset, wanted);
  used_ -= wanted;
  live_.erase(found);
  return true;
}

bool Arena::contains(const void* address) const {
  const auto* const at = static_cast<const std::byte*>(address);
  return at >= base_ && at < base_ + reach_;
}

bool Arena::holds(const void* address, std::size_t bytes) const {
  if (!contains(address)) return false;
  const auto offset = static_cast<std::size_t>(static_cast<const std::byte*>(address) - base_);
  if (bytes > reach_ - offset) return false;
  const std::size_t last = (offset + (bytes == 0 ? 0 : bytes - 1)) / kGranule;
  return granules_[offset / kGranule].load(std::memory_order_relaxed) &&
         granules_[last].load(std::memory_order_relaxed);
}

std::optional<Arena::Allocation> Arena::find(const void* address) const {
  const std::lock_guard lock(mutex_);
  if (!contains(address)) return std::nullopt;
  const auto offset = static_cast<std::size_t>(static_cast<const std::byte*>(address) - base_);
  auto after = live_.upper_bound(offset);
  if (after == live_.begin()) return std::nullopt;
  --after;
  if (offset >= after->first + std::max<std::size_t>(after->second, 1)) return std::nullopt;
  return Allocation{base_ + after->first, after->second, after->first};
}

std::size_t Arena::free_bytes() const {
  const std::lock_guard lock(mutex_);
  return capacity_ - used_;
}

std::string Arena::check_guards() const {
  const std::lock_guard lock(mutex_);
  std::string damage;
  for (const auto& [offset, bytes] : live_) damage += damage_to(offset, bytes);
  return damage;
}

std::string Arena::damage_to(std::size_t offset, std::size_t bytes) const {
  const std::size_t behind = rounded(bytes) - bytes + kGuard;
  allow(base_ + offset - kGuard, kGuard);
  allow(base_ + offset + bytes, behind);
  std::string text;
  const auto look = [&](const std::byte* zone, std::size_t size, bool before) {
    for (std::size_t i = 0; i < size; ++i) {
      if (zone[i] == std::byte(kGuardFill)) continue;
      char line[200];
      std::snprintf(line, sizeof line,
                    "device %d: memory %s an allocation of %zu bytes was written to, %zu bytes "
                    "from it; ",
                    device_, before ? "before" : "behind", bytes, before ? size - i : i);
      text += line;
      return;
    }
  };
  look(base_ + offset - kGuard, kGuard, true);
  look(base_ + offset + bytes, behind, false);
  forbid(base_ + offset - kGuard, kGuard);
  forbid(base_ + offset + bytes, behind);
  return text;
}

void Arena::mark(std::size_t offset, std::size_t bytes, bool live) {
  for (std::size_t i = offset / kGranule; i < (offset + bytes) / kGranule; ++i) {
    granules_[i].store(live, std::memory_order_relaxed);
  }
}

}  // namespace weft::emulated
