// Batches of a data set that is in memory.
//
//   DataLoader loader(images, labels, {.batch_size = 64});
//   for (epoch ...) { loader.set_epoch(epoch); for (const Batch& batch : loader) ... }
#pragma once

#include <iterator>

#include "tensor/data/sampler.h"
#include "tensor/data/tokens.h"

namespace weft::data {

struct LoaderOptions {
  std::int64_t batch_size = 32;
  bool shuffle = true;
  std::uint64_t seed = 0;
  bool drop_last = false;  // a last batch that is not full, and samples that ranks cannot share out
  // Where batches go. For a CUDA device they are gathered in pinned memory and copied on the
  // current stream, without waiting.
  Device device = {};
};

class DataLoader {
 public:
  // Samples along the first dimension, as many inputs as targets, on the cpu, else InvalidArgument.
  DataLoader(Tensor inputs, Tensor targets, LoaderOptions options = {});
  // The part of it that `rank` of `world` sees, as DistributedSampler deals.
  DataLoader share(int rank, int world) const;
  // The same, with batches on that device.
  DataLoader on(Device device) const;
  void set_epoch(std::int64_t epoch) { sampler_.set_epoch(epoch); }
  std::int64_t size() const;  // batches an epoch
  const DistributedSampler& sampler() const { return sampler_; }

  class Iterator {
   public:
    using value_type = Batch;
    using difference_type = std::ptrdiff_t;
    Iterator() = default;
    Batch operator*() const;
    Iterator& operator++() {
      ++batch_;
      return *this;
    }
    void operator++(int) { ++batch_; }
    bool operator==(const Iterator& other) const { return batch_ == other.batch_; }

   private:
    friend class DataLoader;
    const DataLoader* loader_ = nullptr;
    std::vector<std::int64_t> order_;
    std::int64_t batch_ = 0;
  };
  Iterator begin() const;
  Iterator end() const;

 private:
  Tensor inputs_, targets_;
  LoaderOptions options_;
  DistributedSampler sampler_;
};

}  // namespace weft::data
