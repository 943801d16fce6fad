// Fabric::save and load: one safetensors file, "<name>.<entry>" for every entry of every part, or a
// sharded directory of the same parts.
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "launcher/fabric.h"
#include "tensor/parallel/agree.h"
#include "tensor/parallel/async_checkpoint.h"
#include "tensor/parallel/engine.h"
#include "tensor/parallel/single_file.h"

namespace weft {
namespace {

constexpr const char* kGradScaler = "weft.grad_scaler";  // in the file's metadata

checkpoint::Metadata texts_of(const Fabric::State& state, const amp::GradScaler* scaler) {
  checkpoint::Metadata texts;
  for (const auto& [name, text] : state.texts) texts[name] = *text;
  if (scaler != nullptr) texts[kGradScaler] = tensor::amp::to_string(scaler->state());
  return texts;
}

std::string as_json(const char* name, const checkpoint::Metadata& texts) {
  try {
    return nlohmann::json{{name, texts}}.dump();
  } catch (const nlohmann::json::exception& error) {
    fail<InvalidArgument>("Fabric::save(): a text is not UTF-8: {}", error.what());
  }
}

checkpoint::Metadata rank_texts_of(const checkpoint::Source& source, int rank) {
  const auto& ranks = source.manifest().rank_states;
  if (static_cast<std::size_t>(rank) >= ranks.size()) return {};
  try {
    const auto value = nlohmann::json::parse(ranks[static_cast<std::size_t>(rank)]);
    return value.value("texts", checkpoint::Metadata());
  } catch (const nlohmann::json::exception& error) {
    fail<Corrupt>("{}: the texts of rank {}: {}", source.name(), rank, error.what());
  }
}

// The texts of a checkpoint, checked, then handed out.
class Texts {
 public:
  Texts(std::string path, checkpoint::Metadata found, const Fabric::State& state, bool strict)
      : path_(std::move(path)), found_(std::move(found)) {
    for (const auto& [name, text] : state.texts) {
      if (strict && !found_.contains(name)) {
        fail<Mismatch>("{}: there is no '{}' in its metadata.", path_, name);
      }
    }
  }
  // Absent from what another precision saved.
  void check_scaler() {
    if (const auto scale = found_.find(kGradScaler); scale != found_.end()) {
      scaler_ = tensor::amp::parse_grad_scaler_state(scale->second, path_);
    }
  }
  void apply(const Fabric::State& state, amp::GradScaler* scaler) const {
    if (scaler != nullptr && scaler_) scaler->load_state(*scaler_, path_);
    for (const auto& [name, text] : state.texts) {
      if (const auto found = found_.find(name); found != found_.end()) *text = found->second;
    }
  }

 private:
  std::string path_;
  checkpoint::Metadata found_;
  std::optional<amp::GradScalerState> scaler_;
};

}  // namespace

void Fabric::on_rank_zero(const std::function<void()>& action) {
  std::string message;
  auto code = static_cast<std::int64_t>(-1);
  if (is_global_zero()) {
    try {
      action();
    } catch (const Error& error) {
      code = static_cast<std::int64_t>(error.code());
      message = error.what();
    } catch (const std::exception& error) {
      code = static_cast<std::int64_t>(ErrorCode::aborted);
      message = error.what();
    }
  }
  std::array<std::int64_t, 2> verdict{code, static_cast<std::int64_t>(message.size())};
  communicator().broadcast(std::span(verdict), 0);
  if (verdict[0] < 0) return;
  message.resize(static_cast<std::size_t>(verdict[1]));
  communicator().broadcast(comm::View(message.data(), Elems(verdict[1]), DType::u8), 0);
  throw_error(static_cast<ErrorCode>(verdict[0]), message);
}

parallel::ShardedState Fabric::shards_of(const State& state, optim::ShardUse use) const {
  parallel::ShardedState sharded;
  for (const auto& [name, module] : state.modules) {
    const auto* engine = engine_of(*module);
    sharded.parts.push_back({name, engine != nullptr ? engine->parameter_shards()
                                                     : parallel::replicated(module->state_dict())});
  }
  for (const auto& [name, optimizer] : state.optimizers) {
    sharded.parts.push_back({name, optimizer->state_shards(use)});
  }
  return sharded;
}

void Fabric::save(const std::string& path, const State& state, const SaveOptions& options) {
  auto sharded = shards_of(state, optim::ShardUse::save);
  const auto texts = texts_of(state, grad_scaler());
  if (options.sharded) {
    sharded.state = as_json("metadata", texts);
    checkpoint::Metadata own;
    for (const auto& [name, text] : state.rank_texts) own[name] = *text;
    sharded.rank_state = as_json("texts", own);
    save_sharded(path, sharded, options);
    return;
  }
  if (options.asynchronous || options.keep_last != 0 || !state.rank_texts.empty()) {
    fail<InvalidArgument>(
        "Fabric::save({}): asynchronous, keep_last and rank_texts are for sharded checkpoints: "
        "set SaveOptions::sharded.",
        path);
  }
  wait_for_save();
  parallel::save_single_file(path, sharded.parts, texts, communicator());
}

void Fabric::save_sharded(const std::string& path, const parallel::ShardedState& state,
                          const SaveOptions& options) {
  const parallel::SaveShardedOptions how{.keep_last = options.keep_last};
  if (options.asynchronous) {
    if (!async_save_) async_save_ = std::make_unique<parallel::AsyncCheckpoint>(communicator());
    async_save_->save(path, state, communicator(), how);
    return;
  }
  wait_for_save();
  parallel::save_sharded(path, state, communicator(), how);
}

void Fabric::wait_for_save() {
  if (async_save_) async_save_->wait();
}

void Fabric::load(const std::string& path, const State& state, bool strict) {
  wait_for_save();
  auto source = parallel::open_verified(path, communicator());
  std::optional<Texts> texts;
  checkpoint::Metadata own;
  parallel::together(communicator(), [&] {
    for (const auto& [name, module] : state.modules) source.adapt(name, *module);
    texts.emplace(path, source.metadata(), state, strict);
    if (grad_scaler() != nullptr) texts->check_scaler();
    own = rank_texts_of(source, global_rank());
  });
  const auto wishes = shards_of(state, optim::ShardUse::load);
  parallel::load_sharded(source, wishes.parts, communicator(), {.strict = strict});
  for (const auto& [name, module] : state.modules) {
    if (auto* engine = engine_of(*module)) engine->parameters_changed();
  }
  texts->apply(state, grad_scaler());
  for (const auto& [name, text] : state.rank_texts) {
    if (const auto found = own.find(name); found != own.end()) *text = found->second;
  }
  barrier();
}

}  // namespace weft
