// What the model sees at each step: windows at random places, or (--order epoch) epochs in which
// each window of the data comes once, on whatever number of ranks.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "examples/train_gpt/options.h"
#include "launcher/fabric.h"
#include "tensor/checkpoint/training_state.h"
#include "tensor/data/sampler.h"
#include "tensor/data/tokens.h"

namespace train_gpt {

class Batches {
 public:
  // Of this rank. The data set must outlive it.
  Batches(const Options& options, const weft::data::TokenDataset& dataset,
          const weft::Fabric& fabric);

  struct Step {
    std::int64_t iter = 0;
    std::int64_t micro_batches = 0;          // the same on every rank, at least 1
    std::int64_t sequences = 0;              // of all ranks and micro-batches
    std::int64_t epoch = -1;                 // -1: random places
    std::vector<weft::data::Share> windows;  // epoch: of this rank, one a micro-batch
  };
  bool is_over() const;  // the last of --max_epochs has been taken; the same on every rank
  Step next(std::int64_t iter);
  // On the cpu. The losses of a step, each times its batch's weight, add up to the step's.
  weft::data::Batch load(const Step& step, std::int64_t micro) const;

  // For checkpoints: where the data stands, the step that next() gave last included.
  void save(weft::checkpoint::TrainingState& state) const;
  // Mismatch where `source` was made of other data or in another order.
  void restore(const weft::checkpoint::TrainingState& state, const std::string& source);

 private:
  const Options& options_;
  const weft::data::TokenDataset& dataset_;
  int rank_, world_;
  std::optional<weft::data::DistributedSampler> sampler_;  // epoch
};

}  // namespace train_gpt
