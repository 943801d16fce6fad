#include "comm/select/tuning_file.h"

#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>

#include "comm/algorithms/algorithms.h"
#include "comm/simulate/json_fields.h"
#include "kernels/base/error.h"
#include "kernels/base/regular_file.h"

namespace weft::comm {

namespace {

using simulate::Fields;
using simulate::Source;

constexpr std::size_t kFileBytesMax = 1 << 20;
constexpr int kDepthMax = 8;
constexpr double kLeast = 1e-6;  // microseconds, or 10^9 bytes a second
constexpr double kMost = 1e9;
constexpr std::int32_t kRanksMax = 1 << 20;

void microseconds(Fields& fields, const char* field, double& seconds) {
  double value = seconds * 1e6;
  fields.number(field, value, kLeast, kMost);
  if (fields.has(field)) seconds = value / 1e6;
}

void gbytes(Fields& fields, const char* field, double& seconds_per_byte) {
  double value = 1e-9 / seconds_per_byte;
  fields.number(field, value, kLeast, kMost);
  if (fields.has(field)) seconds_per_byte = 1e-9 / value;
}

void read_link(Fields& fields, LinkCosts& costs) {
  microseconds(fields, "latency_us", costs.latency);
  microseconds(fields, "per_message_us", costs.per_message);
  gbytes(fields, "gbyte_s", costs.per_byte);
  gbytes(fields, "reduce_gbyte_s", costs.per_byte_reduce);
}

void read_shared(Fields& fields, SharedCosts& costs) {
  microseconds(fields, "wait_us", costs.wait);
  microseconds(fields, "wait_crowded_us", costs.wait_crowded);
  gbytes(fields, "stage_gbyte_s", costs.per_byte_stage);
  gbytes(fields, "copy_gbyte_s", costs.per_byte_copy);
  gbytes(fields, "reduce_gbyte_s", costs.per_byte_reduce);
}

std::string text_of(const Source& source, Fields& fields, const char* field) {
  const nlohmann::json* value = fields.find(field);
  if (value == nullptr) return {};
  if (!value->is_string()) {
    source.refuse(fields.path(field), "expected a text, found {}", value->type_name());
  }
  return value->get<std::string>();
}

std::string needed(const Source& source, Fields& fields, const char* field,
                   const std::string& path) {
  const std::string text = text_of(source, fields, field);
  if (!fields.has(field)) source.refuse(path, "\"{}\" is missing", field);
  return text;
}

Collective collective_of(const Source& source, Fields& fields, const std::string& path) {
  const std::string name = needed(source, fields, "collective", path);
  std::string choices;
  for (int c = 0; c < kScheduledCollectives; ++c) {
    const auto collective = static_cast<Collective>(c);
    if (name == name_of(collective)) return collective;
    choices += fmt::format("{}{}", c == 0 ? "" : ", ", name_of(collective));
  }
  source.refuse(fields.path("collective"), "there is no collective '{}'; choose one of {}", name,
                choices);
}

Measured::Entry read_entry(const Source& source, Fields& fields, const std::string& path,
                           Collective collective) {
  const std::string name = needed(source, fields, "algorithm", path);
  const Algorithm* algorithm = find_algorithm(name);
  if (algorithm == nullptr) {
    std::string choices;
    for (const Algorithm& one : algorithms()) {
      choices += fmt::format("{}{}", choices.empty() ? "" : ", ", one.name);
    }
    source.refuse(fields.path("algorithm"), "no algorithm is called '{}'; choose one of {}", name,
                  choices);
  }
  // Of hosts the file knows nothing.
  if (name != "hierarchical" && !algorithm->supports({collective, 0, 4, 0})) {
    source.refuse(fields.path("algorithm"), "'{}' does no {}", name, name_of(collective));
  }
  const nlohmann::json* bytes = fields.find("up_to_bytes");
  if (bytes == nullptr) source.refuse(path, "\"up_to_bytes\" is missing");
  constexpr std::int64_t kBytesMax = std::int64_t{1} << 50;
  const bool whole = bytes->is_number_unsigned();
  if (!whole || bytes->get<std::uint64_t>() > static_cast<std::uint64_t>(kBytesMax)) {
    source.refuse(
        fields.path("up_to_bytes"), "expected a whole number, 0 to {}, found {}", kBytesMax,
        bytes->dump(-1, ' ', true, nlohmann::json::error_handler_t::replace).substr(0, 40));
  }
  return {bytes->get<std::int64_t>(), algorithm->name};
}

Measured read_measured(const Source& source, Fields& fields, const std::string& path) {
  Measured table;
  const std::string transport = needed(source, fields, "transport", path);
  const auto medium = parse_medium(transport);
  if (!medium) {
    source.refuse(fields.path("transport"), "expected shm, tcp, network or cuda, found '{}'",
                  transport);
  }
  table.medium = *medium;
  table.collective = collective_of(source, fields, path);
  fields.integer("ranks", table.ranks, 2, kRanksMax);
  if (!fields.has("ranks")) source.refuse(path, "\"ranks\" is missing");
  fields.each("choices", [&](const nlohmann::json& value, const std::string& where) {
    Fields entry(source, value, where);
    table.entries.push_back(read_entry(source, entry, where, table.collective));
    entry.finish();
    const std::size_t n = table.entries.size();
    if (n > 1 && table.entries[n - 1].up_to_bytes <= table.entries[n - 2].up_to_bytes) {
      source.refuse(entry.path("up_to_bytes"), "sizes must rise, but {} follows {}",
                    table.entries[n - 1].up_to_bytes, table.entries[n - 2].up_to_bytes);
    }
  });
  if (table.entries.empty()) source.refuse(path, "\"choices\" is missing or empty");
  return table;
}

nlohmann::ordered_json to_json(const LinkCosts& costs) {
  return {{"latency_us", costs.latency * 1e6},
          {"per_message_us", costs.per_message * 1e6},
          {"gbyte_s", 1e-9 / costs.per_byte},
          {"reduce_gbyte_s", 1e-9 / costs.per_byte_reduce}};
}

nlohmann::ordered_json to_json(const SharedCosts& costs) {
  return {{"wait_us", costs.wait * 1e6},
          {"wait_crowded_us", costs.wait_crowded * 1e6},
          {"stage_gbyte_s", 1e-9 / costs.per_byte_stage},
          {"copy_gbyte_s", 1e-9 / costs.per_byte_copy},
          {"reduce_gbyte_s", 1e-9 / costs.per_byte_reduce}};
}

nlohmann::ordered_json to_json(const Measured& table) {
  nlohmann::ordered_json choices = nlohmann::ordered_json::array();
  for (const Measured::Entry& entry : table.entries) {
    choices.push_back({{"up_to_bytes", entry.up_to_bytes}, {"algorithm", entry.algorithm}});
  }
  return {{"transport", name_of(table.medium)},
          {"collective", name_of(table.collective)},
          {"ranks", table.ranks},
          {"choices", choices}};
}

}  // namespace

Tuning parse_tuning(const std::string& text, const std::string& name) {
  Source source{name, {}};
  const nlohmann::json document = simulate::parse_with_lines(text, name, kDepthMax, source.lines);
  Tuning tuning;
  tuning.source = name;
  Fields fields(source, document, "");
  std::int32_t version = 0;
  fields.integer("weft_tuning", version, kTuningVersion, kTuningVersion);
  if (version == 0) {
    source.refuse("", "\"weft_tuning\": {} is missing; is this a tuning file?", kTuningVersion);
  }
  tuning.host = text_of(source, fields, "host");
  tuning.date = text_of(source, fields, "date");
  fields.integer("cores", tuning.cores, 1, 1 << 20);
  fields.integer("ranks", tuning.ranks, 2, kRanksMax);
  fields.inside("shm", [&](Fields& shared) { read_shared(shared, tuning.shared); });
  fields.inside("messages_in_memory", [&](Fields& link) { read_link(link, tuning.memory); });
  fields.inside("tcp", [&](Fields& link) { read_link(link, tuning.tcp); });
  fields.inside("network", [&](Fields& link) { read_link(link, tuning.network); });
  fields.inside("cuda", [&](Fields& shared) { read_shared(shared, tuning.cuda); });
  fields.number("cuda_small_bytes", tuning.cuda_small_bytes, 0, 1 << 30);
  fields.number("tile_bytes", tuning.tile_bytes, 1 << 10, 1 << 30);
  fields.each("measured", [&](const nlohmann::json& value, const std::string& path) {
    Fields table(source, value, path);
    tuning.measured.push_back(read_measured(source, table, path));
    table.finish();
    const Measured& last = tuning.measured.back();
    for (std::size_t i = 0; i + 1 < tuning.measured.size(); ++i) {
      const Measured& other = tuning.measured[i];
      if (other.medium == last.medium && other.collective == last.collective &&
          other.ranks == last.ranks) {
        source.refuse(path, "{} over {} with {} ranks is there already, at /measured/{}",
                      name_of(last.collective), name_of(last.medium), last.ranks, i);
      }
    }
  });
  fields.finish();
  return tuning;
}

std::string format_tuning(const Tuning& tuning) {
  nlohmann::ordered_json json = {{"weft_tuning", kTuningVersion}};
  if (!tuning.host.empty()) json["host"] = tuning.host;
  if (!tuning.date.empty()) json["date"] = tuning.date;
  if (tuning.cores > 0) json["cores"] = tuning.cores;
  if (tuning.ranks > 0) json["ranks"] = tuning.ranks;
  json["shm"] = to_json(tuning.shared);
  json["messages_in_memory"] = to_json(tuning.memory);
  json["tcp"] = to_json(tuning.tcp);
  json["network"] = to_json(tuning.network);
  json["cuda"] = to_json(tuning.cuda);
  json["cuda_small_bytes"] = tuning.cuda_small_bytes;
  json["tile_bytes"] = tuning.tile_bytes;
  json["measured"] = nlohmann::ordered_json::array();
  for (const Measured& table : tuning.measured) json["measured"].push_back(to_json(table));
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

std::string read_tuning_text(const std::string& path) {
  return read_regular_file(path, "the tuning file " + path, kFileBytesMax);
}

void write_tuning(const Tuning& tuning, const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path directory = fs::path(path).parent_path();
  if (!directory.empty()) fs::create_directories(directory, error);
  if (error) fail<IoError>("cannot make the directory {}: {}", directory.string(), error.message());
  const std::string aside = fmt::format("{}.{}.new", path, getpid());
  {
    std::ofstream file(aside, std::ios::binary | std::ios::trunc);
    file << format_tuning(tuning);
    file.close();
    if (!file) {
      fs::remove(aside, error);
      fail<IoError>("cannot write {}: is the directory there, writable, and not full?", aside);
    }
  }
  fs::rename(aside, path, error);
  if (!error) return;
  const std::string reason = error.message();
  fs::remove(aside, error);
  fail<IoError>("cannot rename {} to {}: {}", aside, path, reason);
}

}  // namespace weft::comm
