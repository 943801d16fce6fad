// What a training run must know to go on, besides tensors; as JSON.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tensor/amp/grad_scaler.h"
#include "tensor/checkpoint/manifest.h"
#include "tensor/checkpoint/safetensors.h"
#include "tensor/random.h"

namespace weft::checkpoint {

struct TrainingState {
  std::int64_t iteration = 0;                       // finished updates
  std::optional<double> best_loss;                  // of validation
  tensor::Generator generator;                      // dropout's, of rank 0
  std::vector<tensor::Generator> rank_generators;   // of every rank, where that was saved
  std::optional<amp::GradScalerState> grad_scaler;  // of 16-mixed
  std::uint64_t data_seed = 0;  // of TokenDataset: with the iteration, where the data stands
  std::map<std::string, std::string> position;  // what a sampler says of where it stands
  std::map<std::string, std::string> settings;  // n_head, tokenizer, whatever resuming must know
};

// A JSON object; `metadata` is what a single file of the model is to have in its header.
std::string to_text(const TrainingState& state, const Metadata& metadata = {});
// Corrupt names `source` and what is wrong.
TrainingState parse_training_state(const std::string& text, const std::string& source);

// What one rank adds to a sharded checkpoint: its generator.
std::string rank_text(const tensor::Generator& generator);
tensor::Generator parse_rank_text(const std::string& text, const std::string& source);

// Goes on where this rank stopped. A rank that was not there goes on where rank 0 stopped, in its
// own stream.
void restore(tensor::Generator& generator, const TrainingState& state, int rank);

// Of a training step's directory without manifest.json: state.json, apart from the files it names,
// and these.
struct SavedFiles {
  std::string state;
  std::vector<FileEntry> files;
};
SavedFiles read_saved_files(const std::filesystem::path& step);
SavedFiles parse_saved_files(const std::string& text, const std::string& source);  // Corrupt

}  // namespace weft::checkpoint
