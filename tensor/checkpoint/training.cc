#include "tensor/checkpoint/training.h"

#include WEFT_XXHASH_HEADER  // <xxhash.h>, or the one that dispatches
#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <system_error>

#include "tensor/checkpoint/atomic_file.h"
#include "tensor/data/mapped_file.h"

namespace weft::checkpoint {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::string_view kFormat = "weft training state";
constexpr int kVersion = 1;
constexpr std::string_view kPrefix = "step-";
constexpr const char* kModel = "model.safetensors";
constexpr const char* kOptimizer = "optimizer.safetensors";
constexpr const char* kState = "state.json";

// "step-12" -> 12
std::optional<std::int64_t> step_of(const fs::path& path) {
  const auto name = path.filename().string();
  if (!name.starts_with(kPrefix)) return {};
  std::int64_t step = -1;
  const auto* end = name.data() + name.size();
  const auto result = std::from_chars(name.data() + kPrefix.size(), end, step);
  if (result.ec != std::errc() || result.ptr != end || step < 0) return {};
  return step;
}

// What a file was when it was written: {"bytes": n, "xxh3": "hex"}.
json fingerprint(const fs::path& path) {
  const auto file = data::MappedFile::open(path);
  const auto bytes = file->bytes();
  return {{"bytes", bytes.size()},
          {"xxh3", fmt::format("{:016x}", XXH3_64bits(bytes.data(), bytes.size()))}};
}

json to_json(const TrainingState& state, const fs::path& directory, bool has_optimizer) {
  json files = {{kModel, fingerprint(directory / kModel)}};
  if (has_optimizer) files[kOptimizer] = fingerprint(directory / kOptimizer);
  json value = {{"format", kFormat},
                {"version", kVersion},
                {"iteration", state.iteration},
                {"random",
                 {{"seed", state.generator.seed()},
                  {"stream", state.generator.stream()},
                  {"offset", state.generator.offset()}}},
                {"data_seed", state.data_seed},
                {"settings", state.settings},
                {"files", files}};
  if (state.grad_scaler) {
    value["grad_scaler"] = {{"scale", state.grad_scaler->scale},
                            {"clean_updates", state.grad_scaler->clean_updates},
                            {"skipped_updates", state.grad_scaler->skipped_updates}};
  }
  if (state.best_loss && std::isfinite(*state.best_loss)) value["best_loss"] = *state.best_loss;
  return value;
}

json read_json(const fs::path& path) {
  const auto file = data::MappedFile::open(path);
  const auto bytes = file->bytes();
  const auto* text = reinterpret_cast<const char*>(bytes.data());
  auto value = json::parse(text, text + bytes.size(), nullptr, false);
  if (!value.is_object() || value.value("format", json()) != kFormat) {
    fail<Corrupt>("{}: this is no training state of weft's, or it is damaged", path.string());
  }
  if (value.value("version", json()) != kVersion) {
    fail<Unsupported>("{}: expected version {}, found {}", path.string(), kVersion,
                      value.value("version", json()).dump());
  }
  return value;
}

// The file is there, and what state.json says of it.
void check_file(const json& value, const fs::path& step, const char* name) {
  const auto path = step / name;
  const auto& files = value.at("files");
  if (!files.contains(name)) {
    fail<Corrupt>("{}: it does not speak of {}; the checkpoint was saved without it",
                  (step / kState).string(), name);
  }
  const auto& expected = files.at(name);
  const auto found = fingerprint(path);
  if (found != expected) {
    fail<Corrupt>("{}: damaged since it was saved: expected {}, found {}", path.string(),
                  expected.dump(), found.dump());
  }
}

TrainingState from_json(const json& value, const fs::path& path) {
  const auto& random = value.at("random");
  TrainingState state;
  state.iteration = value.at("iteration").get<std::int64_t>();
  if (state.iteration < 0) {
    fail<Corrupt>("{}: iteration {} cannot be", path.string(), state.iteration);
  }
  if (value.contains("grad_scaler")) {
    const auto& scaler = value.at("grad_scaler");
    state.grad_scaler = {scaler.at("scale").get<double>(),
                         scaler.at("clean_updates").get<std::int64_t>(),
                         scaler.at("skipped_updates").get<std::int64_t>()};
    if (!amp::is_valid(*state.grad_scaler)) {
      fail<Corrupt>("{}: a loss scale of {} cannot be", path.string(), scaler.dump());
    }
  }
  if (value.contains("best_loss")) state.best_loss = value.at("best_loss").get<double>();
  state.generator = tensor::Generator(random.at("seed").get<std::uint64_t>(),
                                      random.at("stream").get<std::uint64_t>());
  state.generator.set_offset(random.at("offset").get<std::uint64_t>());
  state.data_seed = value.at("data_seed").get<std::uint64_t>();
  state.settings = value.at("settings").get<std::map<std::string, std::string>>();
  return state;
}

void remove_old_steps(const fs::path& out, const fs::path& newest, int keep) {
  if (keep <= 0) return;
  auto steps = training_steps(out);
  std::erase(steps, newest);
  const auto step = step_of(newest).value_or(0);
  std::erase_if(steps, [&](const fs::path& path) { return step_of(path).value_or(0) > step; });
  const auto excess = static_cast<std::ptrdiff_t>(steps.size()) - (keep - 1);
  for (std::ptrdiff_t i = 0; i < excess; ++i) {
    std::error_code ignored;  // not being able to remove an old step does not undo the new one
    fs::remove_all(steps[static_cast<std::size_t>(i)], ignored);
  }
}

}  // namespace

fs::path save_training(const fs::path& out, const nn::Module& model,
                       const optim::Optimizer* optimizer, const TrainingState& state,
                       const SaveOptions& options) {
  std::error_code error;
  fs::create_directories(out, error);
  if (error) fail<IoError>("{}: cannot create the directory: {}", out.string(), error.message());
  remove_leftovers(out);
  const auto step = out / fmt::format("{}{}", kPrefix, state.iteration);
  AtomicDirectory directory(step);
  const auto& place = directory.temporary();
  auto metadata = options.metadata;
  metadata.emplace("format", "pt");  // what transformers expects to find
  save_safetensors(place / kModel, model.state_dict(), metadata);
  if (optimizer != nullptr) save_safetensors(place / kOptimizer, optimizer->state_dict());
  const auto text = to_json(state, place, optimizer != nullptr)
                        .dump(2, ' ', false, json::error_handler_t::replace) +
                    "\n";
  AtomicFile file(place / kState);
  file.write(std::as_bytes(std::span(text)));
  file.commit();
  directory.commit();
  remove_old_steps(out, step, options.keep);
  return step;
}

std::vector<fs::path> training_steps(const fs::path& out) {
  std::vector<fs::path> steps;
  std::error_code error;
  fs::directory_iterator it(out, error);
  for (const fs::directory_iterator end; !error && it != end; it.increment(error)) {
    std::error_code unreadable;
    if (step_of(it->path()) && fs::exists(it->path() / kState, unreadable)) {
      steps.push_back(it->path());
    }
  }
  std::sort(steps.begin(), steps.end(),
            [](const fs::path& a, const fs::path& b) { return *step_of(a) < *step_of(b); });
  return steps;
}

fs::path latest_training(const fs::path& out) {
  const auto steps = training_steps(out);
  if (steps.empty()) {
    fail<IoError>("{}: there is no checkpoint to resume from (expected {}N directories)",
                  out.string(), kPrefix);
  }
  return steps.back();
}

TrainingState read_training_state(const fs::path& step) {
  const auto path = step / kState;
  const auto value = read_json(path);
  try {
    return from_json(value, path);
  } catch (const json::exception& error) {
    fail<Corrupt>("{}: {}", path.string(), error.what());
  }
}

TrainingState load_training(const fs::path& step, nn::Module& model, optim::Optimizer* optimizer) {
  const auto state = read_training_state(step);
  const auto value = read_json(step / kState);
  try {
    check_file(value, step, kModel);
    if (optimizer != nullptr) check_file(value, step, kOptimizer);
  } catch (const json::exception& error) {
    fail<Corrupt>("{}: {}", (step / kState).string(), error.what());
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
