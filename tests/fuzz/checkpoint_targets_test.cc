// What says what a checkpoint consists of, and where a run stood.
#include <nlohmann/json.hpp>

#include <stdexcept>

#include "tensor/checkpoint/manifest.h"
#include "tensor/checkpoint/training_state.h"
#include "tests/fuzz/targets.h"

namespace weft::fuzz {
namespace {

using checkpoint::Manifest;
using checkpoint::PieceEntry;
using checkpoint::TensorEntry;

Bytes bytes_of_text(std::string_view text) { return {text.begin(), text.end()}; }
std::string text_of(std::span<const std::uint8_t> input) {
  return {reinterpret_cast<const char*>(input.data()), input.size()};
}

// As whoever forges a manifest would: with the checksum that its reader asks for. Damage would
// stop at the checksum otherwise.
std::string forged(const std::string& text) {
  auto value = nlohmann::json::parse(text, nullptr, false);
  if (!value.is_object()) return text;
  value.erase("checksum");
  try {
    checkpoint::parse_manifest(value.dump(), "");
  } catch (const Corrupt& error) {
    const std::string message = error.what();
    const std::string_view words = ", found ";
    const auto at = message.rfind(words);
    if (at == std::string::npos || message.size() - at != words.size() + 16) return text;
    value["checksum"] = message.substr(at + words.size());
    return value.dump();
  } catch (const nlohmann::json::exception&) {  // not UTF-8
  }
  return text;
}

void require(bool held, const char* what) {
  if (!held) throw std::logic_error(what);
}

void check(const Manifest& manifest, const TensorEntry& tensor) {
  std::int64_t at = 0;
  for (const PieceEntry& piece : tensor.pieces) {
    require(piece.begin.value == at && piece.count.value > 0, "pieces in order, without holes");
    require(piece.file < manifest.files.size(), "pieces in files that are there");
    const auto bytes = bytes_of(piece.count, tensor.dtype).size();
    require(piece.offset + bytes <= manifest.files[piece.file].bytes, "pieces inside their files");
    at += piece.count.value;
  }
  require(at == checkpoint::elements_of(tensor.shape).value, "pieces of the whole tensor");
}

void manifests(std::span<const std::uint8_t> input) {
  const auto manifest = checkpoint::parse_manifest(forged(text_of(input)), "fuzz");
  for (const auto& file : manifest.files) {
    require(file.name.find('/') == std::string::npos && file.name != "..", "files beside it");
  }
  for (const auto& part : manifest.parts) {
    require(manifest.find(part.name) == &part, "parts that are found by their names");
    for (const auto& tensor : part.tensors) {
      require(manifest.find(part.name, tensor.name) == &tensor, "tensors found by their names");
      check(manifest, tensor);
    }
  }
  // What was taken is written, and read, as what it is.
  const auto text = checkpoint::to_text(manifest);
  require(checkpoint::to_text(checkpoint::parse_manifest(text, "again")) == text, "the same again");
  checkpoint::parse_training_state(manifest.state, "fuzz");
  for (const auto& rank : manifest.rank_states) checkpoint::parse_rank_text(rank, "fuzz");
}

checkpoint::TrainingState example_state() {
  checkpoint::TrainingState state;
  state.iteration = 7;
  state.best_loss = 1.5;
  state.grad_scaler = amp::GradScalerState{65536.0, 3, 1};
  state.data_seed = 5;
  state.position = {{"train", "sampler samples=5 seed=5 shuffle=1 epoch=2 position=3"}};
  state.settings = {{"n_head", "4"}};
  return state;
}

std::vector<Bytes> manifest_seeds() {
  Manifest manifest;
  manifest.world_size = 2;
  for (int rank = 0; rank < 2; ++rank) {
    manifest.files.push_back({checkpoint::shard_file_name("model", rank, 2), "model", 300, 77});
    manifest.rank_states.push_back(checkpoint::rank_text(tensor::Generator(3)));
  }
  manifest.state = checkpoint::to_text(example_state(), {{"n_head", "4"}});
  const TensorEntry whole{"b", DType::bf16, {3}, {{1, Elems(0), Elems(3), 100, 5}}};
  const TensorEntry nothing{"none", DType::f32, {0, 4}, {}};
  const TensorEntry cut{
      "w", DType::f32, {5, 4}, {{0, Elems(0), Elems(9), 96, 5}, {1, Elems(9), Elems(11), 108, 6}}};
  manifest.parts = {{"model", {whole, nothing, cut}}, {"optimizer", {}}};
  return {bytes_of_text(checkpoint::to_text(manifest))};
}

void training_states(std::span<const std::uint8_t> input) {
  const auto state = checkpoint::parse_training_state(text_of(input), "fuzz");
  require(state.iteration >= 0, "iterations that can be");
  checkpoint::parse_training_state(checkpoint::to_text(state), "again");
}
std::vector<Bytes> training_state_seeds() {
  return {bytes_of_text(checkpoint::to_text(example_state())),
          bytes_of_text(checkpoint::to_text(checkpoint::TrainingState(), {{"a", "b"}}))};
}

void saved_files(std::span<const std::uint8_t> input) {
  for (const auto& file : checkpoint::parse_saved_files(text_of(input), "fuzz").files) {
    require(file.name.find('/') == std::string::npos, "files beside it");
  }
}
std::vector<Bytes> saved_files_seeds() {
  auto value = nlohmann::json::parse(checkpoint::to_text(example_state()));
  value["files"] = {{"model.safetensors", {{"bytes", 100}, {"xxh3", "00000000000000ff"}}}};
  return {bytes_of_text(value.dump())};
}

constexpr Target kTargets[] = {
    {"manifests", "tensor/checkpoint/manifest.cc", manifests, manifest_seeds},
    {"training_states", "tensor/checkpoint/training_state.cc", training_states,
     training_state_seeds},
    {"saved_files", "tensor/checkpoint/training_state.cc", saved_files, saved_files_seeds},
};

}  // namespace

std::span<const Target> checkpoint_targets() { return kTargets; }

}  // namespace weft::fuzz
