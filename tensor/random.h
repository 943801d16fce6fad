// Counter-based random numbers (Philox 4x32-10: Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011). The n-th number depends on (seed, stream, n) alone, so that results do not
// depend on the number of threads, a GPU draws the same, and the state is two integers in a
// checkpoint.
#pragma once

#include <cstdint>

namespace weft::tensor {

class Generator {
 public:
  explicit Generator(std::uint64_t seed = 0, std::uint64_t stream = 0)
      : seed_(seed), stream_(stream) {}
  std::uint64_t seed() const { return seed_; }
  std::uint64_t stream() const { return stream_; }
  std::uint64_t offset() const { return offset_; }
  void set_offset(std::uint64_t offset) { offset_ = offset; }
  // Takes `count` words of 32 bits off the stream and gives the position of the first.
  std::uint64_t reserve(std::uint64_t count) {
    const auto start = offset_;
    offset_ += count;
    return start;
  }

  // The same in whole blocks of four words (kernels/philox.h), as many as hold `words`; gives the
  // first block. What is left of a begun block is passed over.
  std::uint64_t reserve_blocks(std::uint64_t words) {
    const auto first = (offset_ + 3) / 4;
    offset_ = (first + (words + 3) / 4) * 4;
    return first;
  }

  // While a CUDA graph is captured (tensor/cuda_graph.h): a number in device memory, a multiple of
  // four, that is added to the position of each draw there when the graph runs. nullptr else.
  void set_advance(const std::uint64_t* advance) { advance_ = advance; }
  const std::uint64_t* advance() const { return advance_; }

  std::uint32_t next_u32();
  double next_double();                       // [0, 1)
  std::uint64_t next_below(std::uint64_t n);  // [0, n), unbiased; n > 0

 private:
  std::uint64_t seed_;
  std::uint64_t stream_;
  std::uint64_t offset_ = 0;
  const std::uint64_t* advance_ = nullptr;
};

// The generator of this thread that modules and dropout use when given none; seed 0 until assigned.
Generator& default_generator();

}  // namespace weft::tensor
