#include "comm/cuda/words.h"

namespace weft::comm {

kernels::cuda::Finish FinishWords::take() {
  constexpr std::size_t kPageBytes = 4096;
  constexpr std::size_t kStride = 4;  // words: a sector of the bus each
  const std::lock_guard lock(mutex_);
  if (free_.empty()) {
    const kernels::cuda::DeviceGuard guard(device_);
    pages_.emplace_back(Bytes(kPageBytes));
    auto* const words = static_cast<std::uint64_t*>(static_cast<void*>(pages_.back().data()));
    for (std::size_t i = kPageBytes / sizeof *words; i >= kStride; i -= kStride) {
      words[i - kStride] = 0;
      free_.push_back(words + i - kStride);
    }
  }
  std::uint64_t* const word = free_.back();
  free_.pop_back();
  return {word, next_++};
}

void FinishWords::give_back(const kernels::cuda::Finish& finish) {
  const std::lock_guard lock(mutex_);
  free_.push_back(finish.word);
}

}  // namespace weft::comm
