// Words in mapped host memory in which kernels say that they are through. Thread-safe.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "kernels/cuda/collective.h"
#include "kernels/cuda/runtime.h"

namespace weft::comm {

class FinishWords {
 public:
  explicit FinishWords(int device) : device_(device) {}

  // A word that says `value` once the kernel that is given it is through.
  kernels::cuda::Finish take();
  void give_back(const kernels::cuda::Finish& finish);
  // Whether it is through, and well.
  static bool is_done(const kernels::cuda::Finish& finish) {
    return __atomic_load_n(finish.word, __ATOMIC_ACQUIRE) == finish.value;
  }
  static bool is_done_badly(const kernels::cuda::Finish& finish) {
    return __atomic_load_n(finish.word, __ATOMIC_ACQUIRE) ==
           (finish.value | kernels::cuda::kFinishedBadly);
  }

 private:
  int device_;
  std::mutex mutex_;
  std::uint64_t next_ = 1;
  std::vector<std::uint64_t*> free_;
  std::vector<kernels::cuda::PinnedMemory> pages_;
};

}  // namespace weft::comm
