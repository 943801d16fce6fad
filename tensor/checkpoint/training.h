// Checkpoints of a training run.
//
//   out/step-2000/model.safetensors       the model alone, for anybody (Hugging Face's names)
//                 optimizer.safetensors   the optimizer's state by parameter
//                 state.json              iteration, random state, settings; sizes and XXH3 of the
//                 files
//
// A step's directory is written beside its place and renamed once everything in it is on the disk:
// a crash at any moment leaves the earlier steps whole, and a directory that is there is complete.
// One process writes (rank 0); any number may read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tensor/amp/grad_scaler.h"
#include "tensor/checkpoint/safetensors.h"
#include "tensor/nn/module.h"
#include "tensor/optim/optimizer.h"
#include "tensor/random.h"

namespace weft::checkpoint {

struct TrainingState {
  std::int64_t iteration = 0;                       // finished updates
  std::optional<double> best_loss;                  // of validation
  tensor::Generator generator;                      // dropout's
  std::optional<amp::GradScalerState> grad_scaler;  // of 16-mixed
  std::uint64_t data_seed = 0;  // of TokenDataset: with the iteration, where the data stands
  std::map<std::string, std::string> settings;  // n_head, tokenizer, whatever resuming must know
};

struct SaveOptions {
  int keep = 2;            // newest steps that stay; 0: all. The one just written always stays
  Metadata metadata = {};  // for model.safetensors
};

// Writes out/step-N, N being state.iteration, and removes steps beyond `keep` (older ones only, and
// only complete ones that weft wrote). Gives its path. IoError names the file and the system's
// reason; then nothing has changed.
std::filesystem::path save_training(const std::filesystem::path& out, const nn::Module& model,
                                    const optim::Optimizer* optimizer, const TrainingState& state,
                                    const SaveOptions& options = {});

// The steps in `out`, oldest first.
std::vector<std::filesystem::path> training_steps(const std::filesystem::path& out);
// The newest; IoError if there is none.
std::filesystem::path latest_training(const std::filesystem::path& out);

// Reads a step (out/step-N). All is checked before anything is changed: IoError, Corrupt or
// Mismatch leave model and optimizer as they were.
TrainingState load_training(const std::filesystem::path& step, nn::Module& model,
                            optim::Optimizer* optimizer);
// state.json alone: to know the settings before there is a model.
TrainingState read_training_state(const std::filesystem::path& step);

// One file into a model, strict; Mismatch and Corrupt name the file.
void load_model(const std::filesystem::path& file, nn::Module& model);

}  // namespace weft::checkpoint
