// Which samples a rank sees when: epochs in which each sample comes exactly once, on any number of
// ranks, interrupted and resumed anywhere.
//
//   DistributedSampler sampler({.samples = n, .rank = r, .world = w, .batch_size = 8, .seed = 1});
//   for (epoch ...) {
//     sampler.set_epoch(epoch);
//     for (auto step = sampler.next(); !step.empty(); step = sampler.next()) ...
//   }
//
// All ranks walk down one list, shuffled by (seed, epoch) alone: neither the number of ranks nor
// anything else changes it. A batch of the job is the next world * batch_size samples of it, rank r
// taking the r-th, (r + world)-th, ... The position is how many samples all ranks together have
// taken, so that it means the same on any number of ranks. (PyTorch's DistributedSampler fills the
// list up until it can be dealt evenly: some samples come twice, and count double.)
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace weft::data {

struct SamplerOptions {
  std::int64_t samples = 0;
  int rank = 0;
  int world = 1;
  std::int64_t batch_size = 1;  // of a rank
  bool shuffle = true;
  std::uint64_t seed = 0;
  bool drop_last = false;  // what is left at the end and fills no batch of all ranks
};

// A rank's part of a batch.
//
// At the end of an epoch ranks may have one sample more or less than others, or none: `weight`
// makes up for it. The mean over ranks of weight x (mean of the losses of `samples`), summed over
// the batches of a step, is the mean over all samples of that step, each counted once. So the loss
// times `weight` gives, averaged over ranks as DDP does, the gradient that one rank would compute
// for all of them. A rank that is left without samples gets one that is not its own, with weight 0:
// it takes part in every collective, and adds nothing.
struct Share {
  std::vector<std::int64_t> samples;  // never empty
  double weight = 1.0;                // exactly 1 in a full step of one batch
  bool is_stand_in() const { return weight == 0.0; }
};

class DistributedSampler {
 public:
  // InvalidArgument where the options make no sense or, with drop_last, leave nothing.
  explicit DistributedSampler(SamplerOptions options);

  void set_epoch(std::int64_t epoch);  // to its beginning; InvalidArgument below 0
  std::int64_t epoch() const { return epoch_; }
  std::int64_t position() const { return position_; }  // samples taken by all ranks, this epoch
  std::int64_t batches() const;                        // a whole epoch
  std::int64_t batches_left() const;                   // from here on; the same on every rank

  // This rank's parts of the next `micro_batches` batches (fewer at the end of the epoch, the same
  // number on every rank), which are one step. Empty when the epoch is over; set_epoch() goes on.
  std::vector<Share> next(std::int64_t micro_batches = 1);

  // Seed, epoch and position, as a line of text for a checkpoint. restore() takes one of any number
  // of ranks and any batch size; it changes nothing when it throws: Corrupt where the text is none
  // of ours, Mismatch where it is of other data, another seed or without shuffling.
  std::string save() const;
  void restore(std::string_view saved);

  const SamplerOptions& options() const { return options_; }

 private:
  std::int64_t batch_of_all() const { return options_.world * options_.batch_size; }
  Share share_of(std::int64_t begin, std::int64_t end, std::int64_t step_samples) const;
  void make_order();

  SamplerOptions options_;
  std::int64_t epoch_ = 0;
  std::int64_t position_ = 0;
  std::vector<std::int64_t> order_;  // of order_epoch_
  std::int64_t order_epoch_ = -1;
};

}  // namespace weft::data
