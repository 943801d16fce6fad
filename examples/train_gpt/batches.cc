#include "examples/train_gpt/batches.h"

#include "kernels/base/error.h"

namespace train_gpt {
namespace {

using namespace weft;  // NOLINT: an example reads better so

constexpr const char* kTrain = "train";  // in TrainingState::position

}  // namespace

Batches::Batches(const Options& options, const data::TokenDataset& dataset, const Fabric& fabric)
    : options_(options),
      dataset_(dataset),
      rank_(fabric.global_rank()),
      world_(fabric.world_size()) {
  if (options.order != "epoch") return;
  sampler_.emplace(data::SamplerOptions{.samples = dataset.windows(),
                                        .rank = rank_,
                                        .world = world_,
                                        .batch_size = options.batch_size,
                                        .seed = options.seed});
}

bool Batches::is_over() const {
  return sampler_ && options_.max_epochs > 0 && sampler_->batches_left() == 0 &&
         sampler_->epoch() + 1 >= options_.max_epochs;
}

Batches::Step Batches::next(std::int64_t iter) {
  Step step;
  step.iter = iter;
  if (!sampler_) {
    step.micro_batches = options_.gradient_accumulation_steps;
    step.sequences = options_.batch_size * step.micro_batches * world_;
    return step;
  }
  if (sampler_->batches_left() == 0) sampler_->set_epoch(sampler_->epoch() + 1);
  const auto before = sampler_->position();
  step.windows = sampler_->next(options_.gradient_accumulation_steps);
  step.micro_batches = static_cast<std::int64_t>(step.windows.size());
  step.sequences = sampler_->position() - before;
  step.epoch = sampler_->epoch();
  return step;
}

data::Batch Batches::load(const Step& step, std::int64_t micro) const {
  if (sampler_) {
    const auto& share = step.windows.at(static_cast<std::size_t>(micro));
    auto batch = dataset_.gather(share.samples);
    batch.weight = share.weight;
    return batch;
  }
  auto batch = dataset_.batch(options_.batch_size, step.iter * step.micro_batches + micro, rank_);
  batch.weight = 1.0 / static_cast<double>(step.micro_batches);
  return batch;
}

void Batches::save(checkpoint::TrainingState& state) const {
  state.data_seed = options_.seed;
  if (sampler_) state.position[kTrain] = sampler_->save();
}

void Batches::restore(const checkpoint::TrainingState& state, const std::string& source) {
  if (!sampler_) return;
  const auto saved = state.position.find(kTrain);
  if (saved == state.position.end()) {
    fail<Corrupt>("{}: there is no position of '{}' in it, which --order epoch goes on from",
                  source, kTrain);
  }
  try {
    sampler_->restore(saved->second);
  } catch (const Error& error) {
    throw_error(error.code(), fmt::format("{}: {}", source, error.what()));
  }
}

}  // namespace train_gpt
