// Pinned and registered host memory, and memory mapped from other processes: ranges that device
// code may use beside a device's own.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <optional>

namespace weft::emulated {

enum class RangeKind { pinned, registered, mapped };

struct Range {
  std::byte* data = nullptr;
  std::size_t bytes = 0;
  RangeKind kind = RangeKind::pinned;
  int device = 0;         // of a mapped one: whose memory it is seen as
  void* owned = nullptr;  // what to unmap or free
  std::size_t owned_bytes = 0;
};

class Ranges {
 public:
  void add(const Range& range);
  // Takes the range that begins here away.
  std::optional<Range> remove(const void* begin, RangeKind kind);
  std::optional<Range> find(const void* address) const;
  bool overlaps(const void* address, std::size_t bytes) const;

 private:
  mutable std::mutex mutex_;
  std::map<const std::byte*, Range> ranges_;
};

Ranges& ranges();

}  // namespace weft::emulated
