#include "examples/train_gpt/resume.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>

#include "kernels/base/error.h"
#include "tensor/checkpoint/training.h"
#include "tensor/parallel/agree.h"
#include "tensor/parallel/checkpoint.h"
#include "tensor/parallel/engine.h"
#include "tensor/random.h"

namespace train_gpt {
namespace {

using namespace weft;  // NOLINT: an example reads better so
using Settings = std::map<std::string, std::string>;

std::int64_t number(const Settings& settings, const std::string& key, const std::string& source) {
  const auto found = settings.find(key);
  if (found == settings.end())
    fail<Corrupt>("{}: there is no '{}' in it: not a checkpoint of train_gpt", source, key);
  std::int64_t value = 0;
  const auto& text = found->second;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    fail<Corrupt>("{}: '{}' is '{}', expected a whole number", source, key, text);
  }
  return value;
}

Settings describe(const Options& o, const Corpus& corpus) {
  return {{"n_layer", std::to_string(o.model.n_layer)},
          {"n_head", std::to_string(o.model.n_head)},
          {"n_embd", std::to_string(o.model.n_embd)},
          {"block_size", std::to_string(o.model.block_size)},
          {"vocab_size", std::to_string(o.model.vocab_size)},
          {"bias", o.model.bias ? "1" : "0"},
          {"order", o.order},
          {"tokenizer", corpus.tokenizer ? corpus.tokenizer->save() : ""}};
}

std::unique_ptr<data::Tokenizer> tokenizer_of(const Settings& settings) {
  const auto found = settings.find("tokenizer");
  if (found == settings.end() || found->second.empty()) return nullptr;
  return data::Tokenizer::restore(found->second);
}

// The checkpoint's model, unless an option was typed that says otherwise.
void adopt(Options& options, const nn::GPTConfig& stored, const std::string& source) {
  const auto check = [&](const char* name, std::int64_t wanted, std::int64_t found) {
    if (wanted == found || !options.given.contains(name)) return;
    fail<Mismatch>("--{} {}: the model of {} has {}. Leave the option out, or start from scratch.",
                   name, wanted, source, found);
  };
  check("n_layer", options.model.n_layer, stored.n_layer);
  check("n_head", options.model.n_head, stored.n_head);
  check("n_embd", options.model.n_embd, stored.n_embd);
  check("block_size", options.model.block_size, stored.block_size);
  check("bias", options.model.bias, stored.bias);
  const auto dropout = options.model.dropout;
  options.model = stored;
  options.model.dropout = dropout;
}

// In which the checkpoint's run takes its data.
void adopt_order(Options& options, const Settings& settings, const std::string& source) {
  const auto found = settings.find("order");
  const std::string stored = found == settings.end() ? "random" : found->second;
  if (options.given.contains("order") && options.order != stored) {
    fail<Mismatch>("--order {}: the run of {} takes its data in order '{}'. Leave the option out.",
                   options.order, source, stored);
  }
  options.order = stored;
}

void open_resume(Options& options, Start& start) {
  start.kind = Start::Kind::resume;
  start.path = checkpoint::latest_training(options.out_dir);
  const auto settings = checkpoint::read_training_state(start.path).settings;
  const auto source = start.path.string();
  nn::GPTConfig stored;
  stored.n_layer = number(settings, "n_layer", source);
  stored.n_head = number(settings, "n_head", source);
  stored.n_embd = number(settings, "n_embd", source);
  stored.block_size = number(settings, "block_size", source);
  stored.bias = number(settings, "bias", source) != 0;
  adopt(options, stored, source);
  adopt_order(options, settings, source);
  start.vocab_size = number(settings, "vocab_size", source);
  start.tokenizer = tokenizer_of(settings);
}

void open_file(Options& options, Start& start) {
  start.kind = Start::Kind::file;
  start.path = options.init_from;
  const checkpoint::SafeTensors file(start.path);
  start.tokenizer = tokenizer_of(file.metadata());
  const bool says_heads = file.metadata().contains("n_head");
  const auto heads =
      says_heads ? std::optional(number(file.metadata(), "n_head", file.source())) : std::nullopt;
  const auto config = nn::infer_gpt_config(file.state_dict(), heads, file.source());
  start.vocab_size = config.vocab_size;
  adopt(options, config, file.source());
}

}  // namespace

Start open_start(Options& options) {
  Start start;
  if (options.init_from == "scratch") return start;
  if (options.init_from == "resume") {
    open_resume(options, start);
  } else if (options.init_from.ends_with(".safetensors")) {
    open_file(options, start);
  } else {
    fail<InvalidArgument>(
        "--init_from '{}': expected scratch, resume, or a file that ends in .safetensors",
        options.init_from);
  }
  return start;
}

std::unique_ptr<nn::GPT> build_model(const Options& options, const Start& start) {
  if (start.vocab_size && *start.vocab_size != options.model.vocab_size) {
    fail<Mismatch>(
        "{}: its vocabulary has {} tokens, that of --data {} has {}. Train on data of the same "
        "tokenizer (--tokenizer bin for GPT-2's own).",
        start.path.string(), *start.vocab_size, options.data, options.model.vocab_size);
  }
  return std::make_unique<nn::GPT>(options.model);
}

void load_weights(const Start& start, nn::GPT& model, Fabric& fabric) {
  if (start.kind != Start::Kind::file) return;
  fabric.load(start.path.string(), {{{"model", &model}}, {}, {}});
}

bool is_sharded(const Options& options, const Fabric& fabric) {
  const bool shared_out = fabric.settings().zero.has_value();
  if (options.checkpoint == "single" && (shared_out || options.async_checkpoint)) {
    fail<InvalidArgument>(
        "--checkpoint single: {}. Use sharded; `weft consolidate` makes one file of its "
        "checkpoints.",
        shared_out ? "no rank has all of the state under " + fabric.settings().strategy
                   : std::string("asynchronous ones are sharded"));
  }
  return shared_out || options.async_checkpoint || options.checkpoint == "sharded";
}

void check_writable(const std::filesystem::path& out_dir) {
  std::error_code error;
  std::filesystem::create_directories(out_dir, error);
  if (error) fail<IoError>("--out_dir {}: cannot make it: {}", out_dir.string(), error.message());
  if (access(out_dir.c_str(), W_OK | X_OK) != 0) {
    fail<IoError>("--out_dir {}: cannot write into it: {}", out_dir.string(), std::strerror(errno));
  }
}

std::int64_t load_progress(const Start& start, const Progressing& run, Fabric& fabric) {
  parallel::together(fabric.communicator(), [&] {
    run.batches.restore(checkpoint::read_training_state(start.path), start.path.string());
  });
  auto& engine = fabric.engine(run.model);
  const auto shards = engine.training_shards(&run.optimizer, optim::ShardUse::load);
  const auto state =
      parallel::load_training(start.path, shards.model, shards.optimizer, fabric.communicator());
  engine.parameters_changed();
  checkpoint::restore(tensor::default_generator(), state, fabric.global_rank());
  if (fabric.grad_scaler() != nullptr && state.grad_scaler) {
    fabric.grad_scaler()->load_state(*state.grad_scaler, start.path.string());
  }
  return state.iteration;
}

std::filesystem::path save_progress(const Options& options, const Corpus& corpus,
                                    const Progressing& run, Fabric& fabric, std::int64_t iter,
                                    double validation_loss) {
  checkpoint::TrainingState state;
  state.iteration = iter;
  state.best_loss = validation_loss;
  state.generator = tensor::default_generator();
  if (fabric.grad_scaler() != nullptr) state.grad_scaler = fabric.grad_scaler()->state();
  run.batches.save(state);
  state.settings = describe(options, corpus);
  checkpoint::SaveOptions save;
  save.keep = options.keep_last;
  save.metadata = {{"n_head", state.settings["n_head"]},
                   {"tokenizer", state.settings["tokenizer"]}};
  const auto step = checkpoint::training_step(options.out_dir, iter);
  if (is_sharded(options, fabric)) {
    const auto shards = fabric.engine(run.model).training_shards(&run.optimizer);
    const auto parts =
        parallel::training_parts(shards.model, shards.optimizer, state, save.metadata);
    fabric.save_sharded(step.string(), parts,
                        {.sharded = true,
                         .asynchronous = options.async_checkpoint,
                         .keep_last = options.keep_last});
    return step;
  }
  fabric.on_rank_zero(
      [&] { checkpoint::save_training(options.out_dir, run.model, &run.optimizer, state, save); });
  return step;
}

std::int64_t first_token(const data::Tokenizer& tokenizer) {
  try {
    return tokenizer.encode("\n").at(0);
  } catch (const InvalidArgument&) {
    return 0;  // a text without line breaks
  }
}

}  // namespace train_gpt
