#include "comm/execute/arena.h"

#include <algorithm>
#include <bit>
#include <new>
#include <utility>

#include "kernels/base/error.h"

namespace weft::comm {

namespace {
constexpr std::size_t kAlign = 64;
constexpr std::size_t kSmallest = 4096;
constexpr std::size_t kKeptMax = std::size_t{256} << 20;
}  // namespace

Chunk::Chunk(std::size_t capacity)
    : memory_(static_cast<std::byte*>(::operator new[](capacity, std::align_val_t{kAlign}))),
      capacity_(capacity) {}

void Chunk::Free::operator()(std::byte* memory) const {
  ::operator delete[](memory, std::align_val_t{kAlign});
}

Chunk Arena::take(Bytes bytes) {
  if (bytes.value == 0) return {};
  auto best = free_.end();
  for (auto it = free_.begin(); it != free_.end(); ++it) {
    if (it->capacity() < bytes.size()) continue;
    if (best == free_.end() || it->capacity() < best->capacity()) best = it;
  }
  // A much larger one is left for who needs it.
  if (best != free_.end() && best->capacity() <= std::max(kSmallest, 4 * bytes.size())) {
    Chunk chunk = std::move(*best);
    *best = std::move(free_.back());
    free_.pop_back();
    kept_ -= chunk.capacity();
    return chunk;
  }
  try {
    return Chunk(std::max(kSmallest, std::bit_ceil(bytes.size())));
  } catch (const std::bad_alloc&) {
    fail<IoError>(
        "cannot allocate {} bytes of working memory: use smaller calls, an algorithm that needs "
        "less, or a higher limit (ulimit -v)",
        bytes.value);
  }
}

void Arena::give(Chunk chunk) {
  if (chunk.capacity() == 0 || kept_ + chunk.capacity() > kKeptMax) return;
  kept_ += chunk.capacity();
  free_.push_back(std::move(chunk));
}

}  // namespace weft::comm
