#include "tensor/data/sampler.h"

#include <numeric>
#include <utility>

#include "kernels/base/error.h"
#include "tensor/random.h"

namespace weft::data {

DistributedSampler::DistributedSampler(SamplerOptions options) : options_(options) {
  const auto& o = options_;
  if (o.world < 1 || o.rank < 0 || o.rank >= o.world) {
    fail<InvalidArgument>("DistributedSampler: rank {} is not in a world of {}", o.rank, o.world);
  }
  if (o.samples < 1) {
    fail<InvalidArgument>("DistributedSampler: there must be samples, not {}", o.samples);
  }
  per_rank_ = o.drop_last ? o.samples / o.world : (o.samples + o.world - 1) / o.world;
  if (per_rank_ == 0) {
    fail<InvalidArgument>(
        "DistributedSampler: {} samples cannot be dealt to {} ranks with drop_last", o.samples,
        o.world);
  }
}

std::vector<std::int64_t> DistributedSampler::indices() const {
  const auto& o = options_;
  std::vector<std::int64_t> all(static_cast<std::size_t>(o.samples));
  std::iota(all.begin(), all.end(), 0);
  if (o.shuffle) {  // Fisher and Yates
    tensor::Generator generator(o.seed, static_cast<std::uint64_t>(epoch_));
    for (auto i = all.size(); i > 1; --i) std::swap(all[i - 1], all[generator.next_below(i)]);
  }
  std::vector<std::int64_t> mine(static_cast<std::size_t>(per_rank_));
  for (std::size_t i = 0; i < mine.size(); ++i) {
    const auto place = i * static_cast<std::size_t>(o.world) + static_cast<std::size_t>(o.rank);
    mine[i] = all[place % all.size()];
  }
  return mine;
}

}  // namespace weft::data
