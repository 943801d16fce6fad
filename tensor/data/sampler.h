// Which samples a rank sees in an epoch.
#pragma once

#include <cstdint>
#include <vector>

namespace weft::data {

// PyTorch's DistributedSampler: the (shuffled) samples dealt out in turn, rank r taking r, r +
// world,
// ... Every rank gets the same number: the list is filled up by starting again from its front, or,
// with drop_last, cut. The order depends on (seed, epoch) alone, so that all ranks agree on it.
struct SamplerOptions {
  std::int64_t samples = 0;
  int rank = 0;
  int world = 1;
  bool shuffle = true;
  std::uint64_t seed = 0;
  bool drop_last = false;
};

class DistributedSampler {
 public:
  // InvalidArgument where the options make no sense or leave a rank without samples.
  explicit DistributedSampler(SamplerOptions options);
  // Another order from here on; without it every epoch is the same.
  void set_epoch(std::int64_t epoch) { epoch_ = epoch; }
  std::int64_t epoch() const { return epoch_; }
  std::int64_t size() const { return per_rank_; }  // of this rank, an epoch
  std::vector<std::int64_t> indices() const;
  const SamplerOptions& options() const { return options_; }

 private:
  SamplerOptions options_;
  std::int64_t per_rank_ = 0;
  std::int64_t epoch_ = 0;
};

}  // namespace weft::data
