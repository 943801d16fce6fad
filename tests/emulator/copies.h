// Asynchronous copies to shared memory that a CUDA thread has begun.
#pragma once

#include <cstddef>
#include <vector>

namespace weft::emulated {

struct PendingCopies {
  struct Copy {
    void* shared;
    const void* global;
    bool inside;
  };
  std::vector<Copy> copies;
  std::vector<std::size_t> groups;  // where each committed group ends
};

// Of the CUDA thread that runs now.
PendingCopies& pending_copies();

}  // namespace weft::emulated
