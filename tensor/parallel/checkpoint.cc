#include "tensor/parallel/checkpoint.h"

#include "tensor/parallel/agree.h"
#include "tensor/parallel/save_job.h"

namespace weft::parallel {

namespace fs = std::filesystem;
using checkpoint::Source;
using checkpoint::TrainingState;

void save_sharded(const fs::path& place, const ShardedState& state, Communicator& communicator,
                  const SaveShardedOptions& options) {
  SaveJob(place, state, communicator, options).write(communicator);
}

ShardList replicated(const nn::StateDict& tensors) {
  ShardList shards;
  for (const auto& [name, tensor] : tensors) {
    shards.push_back({name, tensor.shape(), Elems(0), tensor});
  }
  return shards;
}

ShardedState training_parts(const ShardList& model, const ShardList& optimizer,
                            const TrainingState& state, const checkpoint::Metadata& metadata) {
  auto all = metadata;
  all.emplace("format", "pt");  // what transformers expects to find in a single file
  ShardedState sharded;
  sharded.parts = {{"model", model}, {"optimizer", optimizer}};
  sharded.state = checkpoint::to_text(state, all);
  sharded.rank_state = checkpoint::rank_text(state.generator);
  return sharded;
}

fs::path save_training(const fs::path& out, const ShardList& model, const ShardList& optimizer,
                       const TrainingState& state, Communicator& communicator,
                       const checkpoint::SaveOptions& options) {
  const auto step = checkpoint::training_step(out, state.iteration);
  save_sharded(step, training_parts(model, optimizer, state, options.metadata), communicator,
               {.keep_last = options.keep});
  return step;
}

TrainingState load_training(const fs::path& step, const ShardList& model,
                            const ShardList& optimizer, Communicator& communicator) {
  const auto source = open_verified(step, communicator);
  TrainingState state;
  together(communicator, [&] { state = checkpoint::training_state_of(source); });
  load_sharded(source, {{"model", model}, {"optimizer", optimizer}}, communicator);
  return state;
}

TrainingState load_training(const fs::path& step, nn::Module& model, optim::Optimizer* optimizer,
                            Communicator& communicator) {
  const auto source = open_verified(step, communicator);
  TrainingState state;
  std::vector<nn::StateMatch> matches;
  together(communicator, [&] {
    state = checkpoint::training_state_of(source);
    const nn::LoadOptions options{true, source.name()};
    matches.push_back(model.match_state_dict(source.state_dict("model"), options));
    if (optimizer == nullptr) return;
    matches.push_back(optimizer->match_state_dict(source.state_dict("optimizer"), options));
  });
  for (const auto& match : matches) match.apply();
  return state;
}

}  // namespace weft::parallel
