// Checkpoints of a training run.
//
//   out/step-2000/model.safetensors       the model alone, for anybody (Hugging Face's names)
//                 optimizer.safetensors   the optimizer's state by parameter
//                 state.json              iteration, random state, settings; sizes and XXH3 of the
//                 files
//
// or, written by all ranks together (tensor/parallel/checkpoint.h, docs/checkpoints.md),
//
//   out/step-2000/model-00000-of-00004.safetensors ...      what each rank wrote
//                 optimizer-00000-of-00004.safetensors ...
//                 manifest.json                             which range is where; sizes, checksums
//
// A step's directory is written beside its place and renamed once everything in it is on the disk:
// a crash at any moment leaves the earlier steps whole, and a directory that is there is complete.
// save_training() writes in one process (rank 0); any number may read, either form.
#pragma once

#include <filesystem>
#include <vector>

#include "tensor/checkpoint/source.h"
#include "tensor/checkpoint/steps.h"
#include "tensor/checkpoint/training_state.h"
#include "tensor/nn/module.h"
#include "tensor/optim/optimizer.h"

namespace weft::checkpoint {

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

// Reads a step (out/step-N), of either form. All is checked before anything is changed: IoError,
// Corrupt or Mismatch leave model and optimizer as they were.
TrainingState load_training(const std::filesystem::path& step, nn::Module& model,
                            optim::Optimizer* optimizer);
// state.json or manifest.json alone: to know the settings before there is a model.
TrainingState read_training_state(const std::filesystem::path& step);

// What an opened checkpoint of a run says. Corrupt where it is no run's.
TrainingState training_state_of(const Source& source);

// One file into a model, strict; Mismatch and Corrupt name the file.
void load_model(const std::filesystem::path& file, nn::Module& model);

}  // namespace weft::checkpoint
