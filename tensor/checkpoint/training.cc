#include "tensor/checkpoint/training.h"

#include WEFT_XXHASH_HEADER  // <xxhash.h>, or the one that dispatches
#include <nlohmann/json.hpp>

#include "tensor/checkpoint/atomic_file.h"
#include "tensor/checkpoint/source.h"
#include "tensor/checkpoint/steps.h"
#include "tensor/data/mapped_file.h"

namespace weft::checkpoint {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kModel = "model.safetensors";
constexpr const char* kOptimizer = "optimizer.safetensors";

// What a file was when it was written: {"bytes": n, "xxh3": "hex"}.
json fingerprint(const fs::path& path) {
  const auto file = data::MappedFile::open(path);
  const auto bytes = file->bytes();
  return {{"bytes", bytes.size()},
          {"xxh3", fmt::format("{:016x}", XXH3_64bits(bytes.data(), bytes.size()))}};
}

std::string read_text(const fs::path& path) {
  const auto file = data::MappedFile::open(path);
  return {reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size()};
}

// The file is there, and what state.json says of it.
void check_file(const json& value, const fs::path& step, const char* name) {
  const auto path = step / name;
  const auto& files = value.at("files");
  if (!files.contains(name)) {
    fail<Corrupt>("{}: it does not speak of {}; the checkpoint was saved without it",
                  (step / kStateFile).string(), name);
  }
  const auto& expected = files.at(name);
  const auto found = fingerprint(path);
  if (found != expected) {
    fail<Corrupt>("{}: damaged since it was saved: expected {}, found {}", path.string(),
                  expected.dump(), found.dump());
  }
}

TrainingState load_sharded(const fs::path& step, nn::Module& model, optim::Optimizer* optimizer) {
  const auto source = Source::open(step);
  source.verify_all();
  std::vector<nn::StateMatch> matches;
  matches.push_back(model.match_state_dict(source.state_dict("model"), {true, source.name()}));
  if (optimizer != nullptr) {
    matches.push_back(
        optimizer->match_state_dict(source.state_dict("optimizer"), {true, source.name()}));
  }
  auto state = training_state_of(source);
  for (const auto& match : matches) match.apply();
  return state;
}

}  // namespace

fs::path save_training(const fs::path& out, const nn::Module& model,
                       const optim::Optimizer* optimizer, const TrainingState& state,
                       const SaveOptions& options) {
  prepare_directory(out);
  const auto step = training_step(out, state.iteration);
  AtomicDirectory directory(step);
  const auto& place = directory.temporary();
  auto metadata = options.metadata;
  metadata.emplace("format", "pt");  // what transformers expects to find
  save_safetensors(place / kModel, model.state_dict(), metadata);
  if (optimizer != nullptr) save_safetensors(place / kOptimizer, optimizer->state_dict());
  auto value = json::parse(to_text(state));
  auto& files = value["files"] = {{kModel, fingerprint(place / kModel)}};
  if (optimizer != nullptr) files[kOptimizer] = fingerprint(place / kOptimizer);
  const auto text = value.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
  AtomicFile file(place / kStateFile);
  file.write(std::as_bytes(std::span(text)));
  file.commit();
  directory.commit();
  remove_older(step, options.keep);
  return step;
}

TrainingState training_state_of(const Source& source) {
  const auto name = source.name();
  auto state = parse_training_state(source.manifest().state, name);
  for (const auto& rank : source.manifest().rank_states) {
    state.rank_generators.push_back(parse_rank_text(rank, name));
  }
  return state;
}

TrainingState read_training_state(const fs::path& step) {
  std::error_code ignored;
  if (fs::exists(step / kManifestFile, ignored)) return training_state_of(Source::open(step));
  return parse_training_state(read_text(step / kStateFile), (step / kStateFile).string());
}

TrainingState load_training(const fs::path& step, nn::Module& model, optim::Optimizer* optimizer) {
  std::error_code ignored;
  if (fs::exists(step / kManifestFile, ignored)) return load_sharded(step, model, optimizer);
  const auto text = read_text(step / kStateFile);
  const auto state = parse_training_state(text, (step / kStateFile).string());
  const auto value = json::parse(text);
  try {
    check_file(value, step, kModel);
    if (optimizer != nullptr) check_file(value, step, kOptimizer);
  } catch (const json::exception& error) {
    fail<Corrupt>("{}: {}", (step / kStateFile).string(), error.what());
  }
  const SafeTensors weights(step / kModel);
  std::vector<nn::StateMatch> matches;
  matches.push_back(model.match_state_dict(weights.state_dict(), {true, weights.source()}));
  if (optimizer != nullptr) {
    const SafeTensors moments(step / kOptimizer);
    matches.push_back(optimizer->match_state_dict(moments.state_dict(), {true, moments.source()}));
  }
  for (const auto& match : matches) match.apply();
  return state;
}

void load_model(const fs::path& file, nn::Module& model) {
  const SafeTensors weights(file);
  model.load_state_dict(weights.state_dict(), {true, weights.source()});
}

}  // namespace weft::checkpoint
