#include "tensor/cpu_allocator.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <mutex>
#include <vector>

#include "kernels/base/error.h"

namespace weft::tensor {
namespace {

constexpr int kSmallestLog2 = 6;  // 64 bytes
constexpr int kLargestLog2 = 46;  // 64 TiB: more is refused
constexpr int kSteps = 4;         // classes to a power of two
constexpr std::size_t kClasses =
    static_cast<std::size_t>(kLargestLog2 - kSmallestLog2) * kSteps + 1;
constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kHugeFrom = std::size_t{8} << 20;  // from here classes are whole huge pages
constexpr std::size_t kSlack = std::size_t{64} << 20;

// Class 0 holds 64 bytes; class 4k + s holds 2^(6+k) * (4 + s) / 4.
std::size_t class_bytes(std::size_t index) {
  const auto unit = std::size_t{1} << (kSmallestLog2 + index / kSteps);
  return std::max<std::size_t>(unit / kSteps * (kSteps + index % kSteps), 64);
}

std::size_t class_of(std::size_t bytes) {
  if (bytes <= 64) return 0;
  const auto log2 = static_cast<std::size_t>(std::bit_width(bytes - 1)) - 1;  // 2^log2 < bytes
  const auto step = (std::size_t{1} << log2) / kSteps;
  const auto steps = (bytes - (std::size_t{1} << log2) + step - 1) / step;  // 1 .. kSteps
  return (log2 - kSmallestLog2) * kSteps + steps;
}

// As asked of the system: a multiple of the alignment.
std::size_t system_bytes(std::size_t index) {
  const auto bytes = class_bytes(index);
  const auto alignment = bytes >= kHugeFrom ? kHugePage : kStorageAlignment;
  return (bytes + alignment - 1) / alignment * alignment;
}

std::byte* ask_system(std::size_t bytes) {
  const bool large = bytes >= kHugeFrom;
  void* block = std::aligned_alloc(large ? kHugePage : kStorageAlignment, bytes);
  // Advice only: without it, or where it is refused, the memory is as good and a little slower.
  if (large && block != nullptr) (void)::madvise(block, bytes, MADV_HUGEPAGE);
  return static_cast<std::byte*>(block);
}

std::size_t quarter_of_memory() {
  const long pages = ::sysconf(_SC_PHYS_PAGES);
  const long page = ::sysconf(_SC_PAGESIZE);
  if (pages <= 0 || page <= 0) return std::size_t{1} << 30;
  return static_cast<std::size_t>(pages) / 4 * static_cast<std::size_t>(page);
}

class CpuAllocator {
 public:
  std::byte* allocate(std::size_t bytes) {
    if (bytes > std::size_t{1} << (kLargestLog2 - 1)) refuse(bytes);
    const auto index = class_of(bytes);
    const auto size = system_bytes(index);
    {
      const std::lock_guard lock(mutex_);
      auto& free_blocks = classes_[index].blocks;
      classes_[index].used_at = ++clock_;
      if (!free_blocks.empty()) {
        auto* block = free_blocks.back();
        free_blocks.pop_back();
        cached_ -= size;
        count_use(bytes, size);
        return block;
      }
    }
    auto* block = ask_system(size);
    if (block == nullptr) {
      trim(0);
      block = ask_system(size);
    }
    if (block == nullptr) refuse(bytes);
    const std::lock_guard lock(mutex_);
    ++system_allocations_;
    count_use(bytes, size);
    return block;
  }

  void free(std::byte* block, std::size_t bytes) noexcept {
    const auto index = class_of(bytes);
    const auto size = system_bytes(index);
    bool keep = false;
    {
      const std::lock_guard lock(mutex_);
      asked_ -= bytes;
      in_use_ -= size;
      const auto room = most_to_keep();
      if (size <= room) {
        evict(room - size);
        keep = keep_block(index, block);
        if (keep) cached_ += size;
      }
    }
    if (!keep) std::free(block);
  }

  void trim(std::size_t keep) {
    const std::lock_guard lock(mutex_);
    evict(keep);
  }

  void set_limit(std::size_t limit) {
    const std::lock_guard lock(mutex_);
    limit_ = limit;
    evict(limit);
  }

  CpuMemoryStats stats() {
    const std::lock_guard lock(mutex_);
    const auto bytes = [](std::size_t count) { return Bytes(static_cast<std::int64_t>(count)); };
    return {bytes(in_use_), bytes(cached_),     bytes(peak_),
            bytes(asked_),  bytes(peak_asked_), system_allocations_};
  }

  void reset_peak() {
    const std::lock_guard lock(mutex_);
    peak_asked_ = asked_;
  }

 private:
  struct SizeClass {
    std::vector<std::byte*> blocks;
    std::uint64_t used_at = 0;
  };

  std::size_t most_to_keep() const {
    return std::min(limit_, 2 * peak_ + kSlack - in_use_);  // in_use_ <= peak_
  }

  void count_use(std::size_t bytes, std::size_t size) {
    asked_ += bytes;
    peak_asked_ = std::max(peak_asked_, asked_);
    in_use_ += size;
    peak_ = std::max(peak_, in_use_);
  }

  bool keep_block(std::size_t index, std::byte* block) noexcept {
    try {
      classes_[index].blocks.push_back(block);
      return true;
    } catch (const std::bad_alloc&) {
      return false;  // no memory to remember it by: give it back
    }
  }

  // Frees blocks of the classes that rested longest until at most `keep` bytes are cached.
  void evict(std::size_t keep) noexcept {
    while (cached_ > keep) {
      SizeClass* oldest = nullptr;
      for (auto& candidate : classes_) {
        if (candidate.blocks.empty()) continue;
        if (oldest == nullptr || candidate.used_at < oldest->used_at) oldest = &candidate;
      }
      const auto size = system_bytes(static_cast<std::size_t>(oldest - classes_.data()));
      while (!oldest->blocks.empty() && cached_ > keep) {
        std::free(oldest->blocks.back());
        oldest->blocks.pop_back();
        cached_ -= size;
      }
    }
  }

  [[noreturn]] void refuse(std::size_t bytes) {
    const auto now = stats();
    fail<IoError>(
        "allocating {} bytes for a tensor: the operating system refused; {} bytes are in use by "
        "tensors, {} at the peak. Use a smaller batch or model, or a machine with more memory",
        bytes, now.in_use.value, now.peak_in_use.value);
  }

  std::mutex mutex_;
  std::array<SizeClass, kClasses> classes_;
  std::uint64_t clock_ = 0;
  std::size_t limit_ = quarter_of_memory();
  std::size_t in_use_ = 0;
  std::size_t cached_ = 0;
  std::size_t peak_ = 0;
  std::size_t asked_ = 0;
  std::size_t peak_asked_ = 0;
  std::int64_t system_allocations_ = 0;
};

// Never destroyed: tensors of static storage duration may outlive any other static.
CpuAllocator& allocator() {
  static auto* const instance = new CpuAllocator;
  return *instance;
}

}  // namespace

std::byte* allocate_cpu_memory(Bytes bytes) { return allocator().allocate(bytes.size()); }

void free_cpu_memory(std::byte* block, Bytes bytes) noexcept {
  allocator().free(block, bytes.size());
}

CpuMemoryStats cpu_memory_stats() { return allocator().stats(); }
void reset_cpu_memory_peak() { allocator().reset_peak(); }
void trim_cpu_memory(Bytes keep) { allocator().trim(keep.size()); }
void set_cpu_memory_limit(Bytes limit) { allocator().set_limit(limit.size()); }

}  // namespace weft::tensor
