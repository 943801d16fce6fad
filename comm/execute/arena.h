// Working memory of operations (scratch, staging, temporaries), kept for the next one: fresh pages
// cost more than the copies made in them. Not thread-safe.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "kernels/base/units.h"

namespace weft::comm {

class Chunk {
 public:
  Chunk() = default;
  explicit Chunk(std::size_t capacity);
  std::byte* data() const { return memory_.get(); }
  std::size_t capacity() const { return capacity_; }

 private:
  struct Free {
    void operator()(std::byte* memory) const;
  };
  std::unique_ptr<std::byte[], Free> memory_;  // aligned to cache lines
  std::size_t capacity_ = 0;
};

class Arena {
 public:
  // At least `bytes` long (which may be 0), contents unspecified. Throws IoError.
  Chunk take(Bytes bytes);
  void give(Chunk chunk);

 private:
  std::vector<Chunk> free_;
  std::size_t kept_ = 0;
};

}  // namespace weft::comm
