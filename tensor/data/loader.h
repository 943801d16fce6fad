// Batches of a data set that is in memory.
//
//   DataLoader loader(images, labels, {.batch_size = 64});
//   for (epoch ...) {
//     loader.set_epoch(epoch);
//     for (const Batch& batch : loader) fabric.backward(loss_of(batch) * batch.weight);
//   }
//
// Batches are those of a DistributedSampler: every sample once an epoch, on any number of ranks;
// `weight` makes up for uneven ones at the end. Threading: one thread; one iteration at a time.
#pragma once

#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/data/sampler.h"
#include "tensor/data/tokens.h"

namespace weft::data {

struct LoaderOptions {
  std::int64_t batch_size = 32;  // of a rank
  bool shuffle = true;
  std::uint64_t seed = 0;
  bool drop_last = false;  // a last batch that is not full on all ranks
  // Where batches go. For a CUDA device they are gathered in pinned memory and copied on the
  // current stream, without waiting.
  Device device = {};
};

class DataLoader {
 public:
  // Samples along the first dimension, as many inputs as targets, on the cpu, else InvalidArgument.
  DataLoader(Tensor inputs, Tensor targets, LoaderOptions options = {});
  // The part of it that `rank` of `world` sees; where this one stands, that one goes on.
  DataLoader share(int rank, int world) const;
  // The same, with batches on that device.
  DataLoader on(Device device) const;
  // The next iteration starts at the beginning of that epoch.
  void set_epoch(std::int64_t epoch);
  std::int64_t size() const { return sampler_.batches(); }  // batches of a whole epoch
  const DistributedSampler& sampler() const { return sampler_; }

  // Where the latest iteration stands, the batch that it gave last included; restore() makes the
  // next iteration go on from there, on any number of ranks. Errors are the sampler's.
  std::string save() const { return sampler_.save(); }
  void restore(std::string_view saved);

  class Iterator {
   public:
    using value_type = Batch;
    using difference_type = std::ptrdiff_t;
    Batch operator*() const;
    Iterator& operator++();
    void operator++(int) { ++*this; }
    bool operator==(std::default_sentinel_t) const { return share_.empty(); }

   private:
    friend class DataLoader;
    DataLoader* loader_ = nullptr;
    std::vector<Share> share_;  // one, or none at the end
  };
  // From the beginning of the epoch, or from what was restored. The iterator takes batches off this
  // loader, which must stay where it is meanwhile.
  Iterator begin();
  std::default_sentinel_t end() const { return {}; }

 private:
  Tensor inputs_, targets_;
  LoaderOptions options_;
  DistributedSampler sampler_;
  bool goes_on_ = false;  // the next iteration starts where the sampler stands
};

}  // namespace weft::data
