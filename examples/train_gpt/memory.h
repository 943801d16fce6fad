// What a rank's memory goes to: as predicted before training, and as counted while it ran.
#pragma once

#include "examples/train_gpt/options.h"
#include "launcher/fabric.h"
#include "tensor/memory_use.h"
#include "tensor/nn/gpt.h"
#include "tensor/optim/optimizer.h"

namespace train_gpt {

// docs/plan.md. Of a strategy that `weft plan` knows, of a step of the training that is about to
// begin.
weft::MemoryUse predict_memory(const Options& options, const weft::nn::GPT& model,
                               const weft::Fabric& fabric);

// Counts from its making on. Of this rank; the peak is of the whole process.
class MemoryWatch {
 public:
  MemoryWatch(weft::nn::GPT& model, weft::optim::Optimizer& optimizer, const weft::Fabric& fabric);
  // To be called with gradients complete, before they are given back. Looks once.
  void see_gradients();
  bool has_seen() const { return gradients_ > weft::Bytes(0); }
  weft::MemoryUse use() const;

 private:
  weft::nn::GPT& model_;
  weft::optim::Optimizer& optimizer_;
  const weft::Fabric& fabric_;
  weft::Bytes gradients_;
  weft::Bytes borrowed_;  // of gradients: in memory that is not the allocator's
};

// The most that any rank has of each. Collective.
weft::MemoryUse largest(const weft::MemoryUse& use, weft::Fabric& fabric);

}  // namespace train_gpt
