// The training loop.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "examples/train_gpt/batches.h"
#include "examples/train_gpt/corpus.h"
#include "examples/train_gpt/memory.h"
#include "examples/train_gpt/options.h"
#include "examples/train_gpt/progress.h"
#include "examples/train_gpt/resume.h"
#include "launcher/fabric.h"
#include "tensor/cuda_graph.h"
#include "tensor/nn/gpt.h"
#include "tensor/optim/adam.h"
#include "tensor/optim/schedule.h"

namespace train_gpt {

class Trainer {
 public:
  // Collective, as everything here: reads the data, builds or loads the model.
  Trainer(const Options& options, weft::Fabric& fabric);
  void run();

 private:
  void save(double validation_loss);
  double validate();
  StepReport step();
  std::vector<weft::Tensor> update(const std::vector<weft::Tensor>& batches,
                                   const std::vector<double>& weights);
  void check_graph(const std::vector<weft::Tensor>& results);
  weft::data::Batch on_device(const weft::data::Batch& batch) const;
  std::int64_t skipped_updates() const;
  Progressing progressing() { return {*model_, *optimizer_, batches_}; }
  void sample();

  Options options_;
  weft::Fabric& fabric_;
  Progress progress_;
  Start start_;
  Corpus corpus_;
  Batches batches_;
  std::unique_ptr<weft::nn::GPT> model_;
  std::unique_ptr<weft::optim::AdamW> optimizer_;
  weft::optim::CosineSchedule schedule_;
  std::optional<MemoryWatch> memory_;               // from the first step on
  std::optional<weft::tensor::GraphedStep> graph_;  // with --graph
  std::int64_t iter_ = 0;
};

}  // namespace train_gpt
