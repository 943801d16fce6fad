#include "tensor/checkpoint/training_state.h"

#include <nlohmann/json.hpp>

#include <charconv>
#include <cmath>

#include "kernels/base/json_whole.h"
#include "tensor/data/mapped_file.h"

namespace weft::checkpoint {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::string_view kFormat = "weft training state";
constexpr int kVersion = 1;
constexpr const char* kState = "state.json";

json to_json(const tensor::Generator& generator) {
  return {
      {"seed", generator.seed()}, {"stream", generator.stream()}, {"offset", generator.offset()}};
}

tensor::Generator generator_from(const json& random) {
  tensor::Generator generator(whole<std::uint64_t>(random.at("seed")),
                              whole<std::uint64_t>(random.at("stream")));
  generator.set_offset(whole<std::uint64_t>(random.at("offset")));
  return generator;
}

json to_json(const TrainingState& state) {
  json value = {{"format", kFormat},
                {"version", kVersion},
                {"iteration", state.iteration},
                {"random", to_json(state.generator)},
                {"data_seed", state.data_seed},
                {"settings", state.settings}};
  if (!state.position.empty()) value["position"] = state.position;
  if (state.grad_scaler) {
    value["grad_scaler"] = {{"scale", state.grad_scaler->scale},
                            {"clean_updates", state.grad_scaler->clean_updates},
                            {"skipped_updates", state.grad_scaler->skipped_updates}};
  }
  if (state.best_loss && std::isfinite(*state.best_loss)) value["best_loss"] = *state.best_loss;
  return value;
}

void check_format(const json& value, const std::string& source) {
  if (!value.is_object() || value.value("format", json()) != kFormat) {
    fail<Corrupt>("{}: this is no training state of weft's, or it is damaged", source);
  }
  if (value.value("version", json()) != kVersion) {
    fail<Unsupported>("{}: expected version {}, found {}", source, kVersion,
                      value.value("version", json()).dump());
  }
}

json parse(const std::string& text, const std::string& source) {
  static constexpr int kDepthMax = 100;
  const auto check_depth = [&](int depth, json::parse_event_t, json&) {
    if (depth > kDepthMax)
      fail<Corrupt>("{}: it is nested deeper than {} levels", source, kDepthMax);
    return true;
  };
  return json::parse(text, check_depth, false);
}

TrainingState from_json(const json& value, const std::string& source) {
  TrainingState state;
  state.generator = generator_from(value.at("random"));
  state.iteration = whole<std::int64_t>(value.at("iteration"));
  if (state.iteration < 0) {
    fail<Corrupt>("{}: iteration {} cannot be", source, state.iteration);
  }
  if (value.contains("grad_scaler")) {
    const auto& scaler = value.at("grad_scaler");
    state.grad_scaler = {scaler.at("scale").get<double>(),
                         whole<std::int64_t>(scaler.at("clean_updates")),
                         whole<std::int64_t>(scaler.at("skipped_updates"))};
    if (!amp::is_valid(*state.grad_scaler)) {
      fail<Corrupt>("{}: a loss scale of {} cannot be", source, scaler.dump());
    }
  }
  if (value.contains("best_loss")) state.best_loss = value.at("best_loss").get<double>();
  state.data_seed = whole<std::uint64_t>(value.at("data_seed"));
  state.settings = value.at("settings").get<std::map<std::string, std::string>>();
  if (value.contains("position")) {
    state.position = value.at("position").get<std::map<std::string, std::string>>();
  }
  return state;
}

}  // namespace

std::string to_text(const TrainingState& state, const Metadata& metadata) {
  auto value = to_json(state);
  if (!metadata.empty()) value["metadata"] = metadata;
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

TrainingState parse_training_state(const std::string& text, const std::string& source) {
  const auto value = parse(text, source);
  check_format(value, source);
  try {
    return from_json(value, source);
  } catch (const json::exception& error) {
    fail<Corrupt>("{}: {}", source, error.what());
  }
}

std::string rank_text(const tensor::Generator& generator) {
  return json{{"random", to_json(generator)}}.dump();
}

tensor::Generator parse_rank_text(const std::string& text, const std::string& source) {
  const auto value = parse(text, source);
  try {
    return generator_from(value.at("random"));
  } catch (const json::exception& error) {
    fail<Corrupt>("{}: the state of a rank: {}", source, error.what());
  }
}

void restore(tensor::Generator& generator, const TrainingState& state, int rank) {
  const auto index = static_cast<std::size_t>(rank);
  if (index >= state.rank_generators.size()) {
    generator.set_offset(state.generator.offset());
    return;
  }
  const auto* advance = generator.advance();
  generator = state.rank_generators[index];
  generator.set_advance(advance);
}

SavedFiles read_saved_files(const fs::path& step) {
  const auto path = step / kState;
  const auto file = data::MappedFile::open(path);
  const auto bytes = file->bytes();
  return parse_saved_files({reinterpret_cast<const char*>(bytes.data()), bytes.size()},
                           path.string());
}

SavedFiles parse_saved_files(const std::string& text, const std::string& source) {
  auto value = parse(text, source);
  check_format(value, source);
  SavedFiles saved;
  try {
    for (const auto& [name, entry] : value.at("files").items()) {
      if (name.find('/') != std::string::npos || name.starts_with('.')) {
        fail<Corrupt>("{}: '{}' is no name of a file beside it", source, name);
      }
      const auto digits = entry.at("xxh3").get<std::string>();
      std::uint64_t sum = 0;
      const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), sum, 16);
      if (read.ec != std::errc() || read.ptr != digits.data() + digits.size()) {
        fail<Corrupt>("{}: '{}' is no checksum", source, digits);
      }
      saved.files.push_back(
          {name, fs::path(name).stem().string(), whole<std::uint64_t>(entry.at("bytes")), sum});
    }
  } catch (const json::exception& error) {
    fail<Corrupt>("{}: {}", source, error.what());
  }
  value.erase("files");
  saved.state = value.dump();
  return saved;
}

}  // namespace weft::checkpoint
