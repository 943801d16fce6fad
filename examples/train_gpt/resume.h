// Where a run starts from, and what it leaves for the next one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>

#include "examples/train_gpt/batches.h"
#include "examples/train_gpt/corpus.h"
#include "examples/train_gpt/options.h"
#include "launcher/fabric.h"
#include "tensor/nn/gpt.h"
#include "tensor/optim/optimizer.h"

namespace train_gpt {

struct Start {
  enum class Kind { scratch, resume, file };
  Kind kind = Kind::scratch;
  std::filesystem::path path;                        // a step's directory, or a safetensors file
  std::unique_ptr<weft::data::Tokenizer> tokenizer;  // the one that run used, where it is known
  std::optional<std::int64_t> vocab_size;            // the model's, where there is one
};

// Reads what --init_from names. The model's sizes come from there and replace those in `options`,
// as in nanoGPT.
Start open_start(Options& options);
// Mismatch where the start's vocabulary is not the data's.
std::unique_ptr<weft::nn::GPT> build_model(const Options& options, const Start& start);
// Of the start's file, into the shards of a model set up. Collective.
void load_weights(const Start& start, weft::nn::GPT& model, weft::Fabric& fabric);

// Whether all ranks write checkpoints, as --checkpoint, --async_checkpoint and the strategy want
// it. InvalidArgument where they cannot all have their way.
bool is_sharded(const Options& options, const weft::Fabric& fabric);
// Makes the directory where it is missing. IoError now, rather than after hours of training.
void check_writable(const std::filesystem::path& out_dir);
// What training changes.
struct Progressing {
  weft::nn::GPT& model;
  weft::optim::Optimizer& optimizer;
  Batches& batches;
};
// Gives the iteration to go on from. Collective.
std::int64_t load_progress(const Start& start, const Progressing& run, weft::Fabric& fabric);
// As --checkpoint and --async_checkpoint say. Gives the checkpoint's path. Collective.
std::filesystem::path save_progress(const Options& options, const Corpus& corpus,
                                    const Progressing& run, weft::Fabric& fabric, std::int64_t iter,
                                    double validation_loss);

// What a sample starts with: a line break where there is one.
std::int64_t first_token(const weft::data::Tokenizer& tokenizer);

}  // namespace train_gpt
