#include "tensor/checkpoint/manifest.h"

#include WEFT_XXHASH_HEADER  // <xxhash.h>, or the one that dispatches
#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <map>

#include "kernels/base/error.h"
#include "tensor/checkpoint/safetensors.h"

namespace weft::checkpoint {
namespace {

using nlohmann::json;

constexpr std::string_view kFormat = "weft sharded checkpoint";
constexpr int kVersion = 1;
constexpr int kWorldMax = 1 << 20;
constexpr std::uint64_t kCountMax = std::uint64_t{1} << 60;  // keeps sums and bytes in range
constexpr const char* kChecksum = "checksum";

std::string checksum_of(const json& value) {
  const auto text = value.dump();
  return hex(XXH3_64bits(text.data(), text.size()));
}

std::uint64_t parse_hex(const json& value) {
  const auto text = value.get<std::string>();
  std::uint64_t number = 0;
  const auto* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, number, 16);
  if (text.size() != 16 || result.ec != std::errc() || result.ptr != end) {
    fail<Corrupt>("'{}' is no checksum", text);
  }
  return number;
}

std::uint64_t parse_number(const json& value, std::uint64_t most) {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > most) {
    fail<Corrupt>("expected a number of at most {}, found {}", most, value.dump());
  }
  return value.get<std::uint64_t>();
}

bool is_plain_name(const std::string& name) {
  return !name.empty() && name.front() != '.' && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

// Without its depth bounded, a document could exhaust the stack of those who walk it.
json parse_json(std::string_view text) {
  static constexpr int kDepthMax = 100;
  const auto check_depth = [](int depth, json::parse_event_t, json&) {
    if (depth > kDepthMax) fail<Corrupt>("it is nested deeper than {} levels", kDepthMax);
    return true;
  };
  return json::parse(text.begin(), text.end(), check_depth, false);
}

json json_object(const std::string& text, const char* what) {
  auto value = parse_json(text);
  if (!value.is_object()) fail<InvalidArgument>("checkpoint: the {} is no JSON object", what);
  return value;
}

json to_json(const TensorEntry& tensor, const Manifest& manifest) {
  auto pieces = json::array();
  for (const auto& piece : tensor.pieces) {
    json entry = {{"file", manifest.files[piece.file].name},
                  {"begin", piece.begin.value},
                  {"count", piece.count.value},
                  {"offset", piece.offset}};
    if (piece.xxh3) entry["xxh3"] = hex(*piece.xxh3);
    pieces.push_back(std::move(entry));
  }
  return {{"dtype", safetensors_type(tensor.dtype)}, {"shape", tensor.shape}, {"pieces", pieces}};
}

// Reads one document; what it throws lacks the source, which parse_manifest() adds.
class ManifestReader {
 public:
  explicit ManifestReader(const json& value) : value_(value) {}

  Manifest read() {
    manifest_.world_size = static_cast<int>(parse_number(value_.at("world_size"), kWorldMax));
    if (manifest_.world_size == 0) fail<Corrupt>("a world of no ranks");
    for (const auto& [name, file] : value_.at("files").get_ref<const json::object_t&>()) {
      read_file(name, file);
    }
    for (const auto& [name, part] : value_.at("parts").get_ref<const json::object_t&>()) {
      read_part(name, part);
    }
    for (const auto& rank : value_.at("ranks").get_ref<const json::array_t&>()) {
      if (!rank.is_object()) fail<Corrupt>("the state of a rank is no object");
      manifest_.rank_states.push_back(rank.dump());
    }
    if (!value_.at("state").is_object()) fail<Corrupt>("the state is no object");
    manifest_.state = value_.at("state").dump();
    return std::move(manifest_);
  }

 private:
  void read_file(const std::string& name, const json& file) {
    if (!is_plain_name(name)) fail<Corrupt>("'{}' is no name of a file beside it", name);
    FileEntry entry{name, file.at("part").get<std::string>(), 0, {}};
    entry.bytes = parse_number(file.at("bytes"), kCountMax);
    entry.xxh3 = parse_hex(file.at("xxh3"));
    indices_[name] = manifest_.files.size();
    manifest_.files.push_back(std::move(entry));
  }

  void read_part(const std::string& name, const json& part) {
    try {
      check_part_name(name);
    } catch (const InvalidArgument& error) {
      fail<Corrupt>("{}", error.what());
    }
    PartEntry entry{name, {}};
    for (const auto& [tensor, description] : part.get_ref<const json::object_t&>()) {
      try {
        entry.tensors.push_back(read_tensor(name, tensor, description));
      } catch (const json::exception& error) {
        fail<Corrupt>("tensor '{}': {}", tensor, error.what());
      } catch (const Corrupt& error) {
        fail<Corrupt>("tensor '{}': {}", tensor, error.what());
      }
    }
    manifest_.parts.push_back(std::move(entry));
  }

  TensorEntry read_tensor(const std::string& part, const std::string& name, const json& value) {
    TensorEntry tensor{name, DType::f32, {}, {}};
    const auto type = value.at("dtype").get<std::string>();
    const auto dtype = parse_safetensors_type(type);
    if (!dtype) fail<Corrupt>("unknown dtype '{}'", type);
    tensor.dtype = *dtype;
    std::uint64_t elements = 1;
    for (const auto& size : value.at("shape").get_ref<const json::array_t&>()) {
      const auto factor = parse_number(size, kCountMax);
      if (factor != 0 && elements > kCountMax / 8 / factor) fail<Corrupt>("its shape is too large");
      elements *= factor;
      tensor.shape.push_back(static_cast<std::int64_t>(factor));
    }
    std::uint64_t at = 0;
    for (const auto& piece : value.at("pieces").get_ref<const json::array_t&>()) {
      tensor.pieces.push_back(read_piece(part, piece, *dtype, at, elements));
      at += tensor.pieces.back().count.size();
    }
    if (at != elements) fail<Corrupt>("its pieces end at {}, expected {}: a hole", at, elements);
    return tensor;
  }

  PieceEntry read_piece(const std::string& part, const json& value, DType dtype, std::uint64_t at,
                        std::uint64_t elements) {
    const auto file = value.at("file").get<std::string>();
    const auto found = indices_.find(file);
    if (found == indices_.end()) fail<Corrupt>("it lies in '{}', which is no file of it", file);
    const auto& entry = manifest_.files[found->second];
    if (entry.part != part) {
      fail<Corrupt>("it lies in {}, a file of '{}', expected '{}'", file, entry.part, part);
    }
    const auto begin = parse_number(value.at("begin"), kCountMax);
    const auto count = parse_number(value.at("count"), kCountMax);
    const auto offset = parse_number(value.at("offset"), kCountMax);
    if (begin != at) {
      fail<Corrupt>("a piece in {} begins at {}, expected {}: {}", file, begin, at,
                    begin > at ? "a hole before it" : "it overlaps another");
    }
    if (count == 0 || count > elements - at) {
      fail<Corrupt>("a piece in {} has {} elements, expected 1 to {}", file, count, elements - at);
    }
    const auto bytes = bytes_of(Elems(static_cast<std::int64_t>(count)), dtype).size();
    if (offset > entry.bytes || bytes > entry.bytes - offset) {
      fail<Corrupt>("a piece lies at bytes [{}, {}) of {}, which has {}", offset, offset + bytes,
                    file, entry.bytes);
    }
    return {found->second, Elems(static_cast<std::int64_t>(begin)),
            Elems(static_cast<std::int64_t>(count)), offset, parse_hex(value.at("xxh3"))};
  }

  const json& value_;
  Manifest manifest_;
  std::map<std::string, std::size_t> indices_;
};

template <class Entries>
auto find_named(const Entries& entries, std::string_view name) {
  const auto it = std::lower_bound(
      entries.begin(), entries.end(), name,
      [](const auto& entry, std::string_view wanted) { return entry.name < wanted; });
  return it != entries.end() && it->name == name ? &*it : nullptr;
}

}  // namespace

const PartEntry* Manifest::find(std::string_view part) const { return find_named(parts, part); }

const TensorEntry* Manifest::find(std::string_view part, std::string_view tensor) const {
  const auto* entry = find(part);
  return entry == nullptr ? nullptr : find_named(entry->tensors, tensor);
}

Elems elements_of(const Shape& shape) {
  std::int64_t elements = 1;
  for (const auto size : shape) elements *= size;
  return Elems(elements);
}

std::string piece_name(const std::string& tensor, const Shape& shape, Elems begin, Elems count) {
  if (count == elements_of(shape)) return tensor;
  return fmt::format("{}[{}:{}]", tensor, begin.value, (begin + count).value);
}

std::string shard_file_name(const std::string& part, int rank, int world_size) {
  return fmt::format("{}-{:05}-of-{:05}.safetensors", part, rank, world_size);
}

std::string hex(std::uint64_t xxh3) { return fmt::format("{:016x}", xxh3); }

void check_part_name(const std::string& part) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.';
  };
  if (!part.empty() && part.front() != '.' && part.size() <= 100 &&
      std::all_of(part.begin(), part.end(), plain)) {
    return;
  }
  fail<InvalidArgument>(
      "checkpoint: a part cannot be named '{}': expected letters, digits, '_' and '.', at most 100",
      part);
}

std::string to_text(const Manifest& manifest) {
  json files = json::object();
  for (const auto& file : manifest.files) {
    auto& entry = files[file.name] = {{"part", file.part}, {"bytes", file.bytes}};
    if (file.xxh3) entry["xxh3"] = hex(*file.xxh3);
  }
  json parts = json::object();
  for (const auto& part : manifest.parts) {
    auto& tensors = parts[part.name] = json::object();
    for (const auto& tensor : part.tensors) tensors[tensor.name] = to_json(tensor, manifest);
  }
  auto ranks = json::array();
  for (const auto& state : manifest.rank_states) {
    ranks.push_back(json_object(state, "state of a rank"));
  }
  json value = {{"format", kFormat},
                {"version", kVersion},
                {"world_size", manifest.world_size},
                {"files", std::move(files)},
                {"parts", std::move(parts)},
                {"state", json_object(manifest.state, "state")},
                {"ranks", std::move(ranks)}};
  try {
    value[kChecksum] = checksum_of(value);
    return value.dump(1) + "\n";
  } catch (const json::exception& error) {
    fail<InvalidArgument>("checkpoint: a name or a text in it is not UTF-8: {}", error.what());
  }
}

Manifest parse_manifest(std::string_view text, const std::string& source) {
  json value;
  try {
    value = parse_json(text);
  } catch (const Corrupt& error) {
    fail<Corrupt>("{}: {}", source, error.what());
  }
  if (!value.is_object() || value.value("format", json()) != kFormat) {
    fail<Corrupt>("{}: this is no manifest of a checkpoint of weft's, or it is damaged", source);
  }
  if (value.value("version", json()) != kVersion) {
    fail<Unsupported>("{}: expected version {}, found {}", source, kVersion,
                      value.value("version", json()).dump());
  }
  const auto expected = value.value(kChecksum, json());
  value.erase(kChecksum);
  try {
    if (const auto found = checksum_of(value); expected != found) {
      fail<Corrupt>("damaged since it was saved: expected checksum {}, found {}", expected.dump(),
                    found);
    }
    return ManifestReader(value).read();
  } catch (const json::exception& error) {
    fail<Corrupt>("{}: {}", source, error.what());
  } catch (const Corrupt& error) {
    fail<Corrupt>("{}: {}", source, error.what());
  }
}

}  // namespace weft::checkpoint
