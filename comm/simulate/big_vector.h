// A vector for hundreds of megabytes that are read in no order: on huge pages, where the system
// gives them, because finding the pages of such memory costs more than the memory itself.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>
#include <new>
#include <vector>

namespace weft::comm::simulate {

template <class T>
struct HugePages {
  using value_type = T;
  static constexpr std::size_t kPage = std::size_t{2} << 20;

  HugePages() = default;
  template <class U>
  HugePages(const HugePages<U>&) {}  // NOLINT: allocators convert

  T* allocate(std::size_t count) {
    const std::size_t bytes = count * sizeof(T);
    if (bytes < 2 * kPage) {
      return static_cast<T*>(::operator new(bytes, std::align_val_t(alignof(T))));
    }
    void* memory = std::aligned_alloc(kPage, (bytes + kPage - 1) / kPage * kPage);
    if (memory == nullptr) throw std::bad_alloc();
    ::madvise(memory, bytes, MADV_HUGEPAGE);  // a wish: without it all is slower, not wrong
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, std::size_t count) {
    if (count * sizeof(T) < 2 * kPage) {
      ::operator delete(memory, std::align_val_t(alignof(T)));
    } else {
      std::free(memory);
    }
  }
  bool operator==(const HugePages&) const { return true; }
};

template <class T>
using BigVector = std::vector<T, HugePages<T>>;

}  // namespace weft::comm::simulate
