#include "tensor/checkpoint/source.h"

#include WEFT_XXHASH_HEADER  // <xxhash.h>, or the one that dispatches
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <span>

#include "kernels/cast.h"
#include "tensor/autograd/node.h"
#include "tensor/checkpoint/safetensors.h"
#include "tensor/checkpoint/shard_reader.h"
#include "tensor/checkpoint/training.h"
#include "tensor/data/mapped_file.h"

namespace weft::checkpoint {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::uint64_t sum(std::string_view text) { return XXH3_64bits(text.data(), text.size()); }

// A file's tensors into the part that their names begin with, "PART.", or all into "model".
void add_file(Manifest& manifest, const SafeTensors& file, const std::string& part,
              const std::vector<std::string>& prefixes) {
  const auto index = manifest.files.size();
  const auto size = fs::file_size(file.source());
  manifest.files.push_back({fs::path(file.source()).filename().string(), part, size, {}});
  std::map<std::string, PartEntry> parts;
  if (prefixes.empty()) parts[part].name = part;
  for (const auto& name : prefixes) parts[name].name = name;
  for (const auto& info : file.tensors()) {
    if (!info.dtype) continue;
    auto* into = &parts.begin()->second;
    std::string name = info.name;
    for (auto& [prefix, entry] : parts) {
      if (prefixes.empty() || !info.name.starts_with(prefix + ".")) continue;
      into = &entry;
      name = info.name.substr(prefix.size() + 1);
    }
    TensorEntry tensor{name, *info.dtype, info.shape, {}};
    const auto count = elements_of(info.shape);
    const auto offset = file.data_start() + info.begin;
    if (count.value > 0) tensor.pieces.push_back({index, Elems(0), count, offset, {}});
    into->tensors.push_back(std::move(tensor));
  }
  for (auto& [name, entry] : parts) {
    std::sort(entry.tensors.begin(), entry.tensors.end(),
              [](const TensorEntry& a, const TensorEntry& b) { return a.name < b.name; });
    manifest.parts.push_back(std::move(entry));
  }
  std::sort(manifest.parts.begin(), manifest.parts.end(),
            [](const PartEntry& a, const PartEntry& b) { return a.name < b.name; });
}

// {"a": "b"} of the metadata's texts, to go along with what becomes of the file.
Manifest of_single_file(const fs::path& path) {
  const SafeTensors file(path);
  auto metadata = file.metadata();
  const auto take = [&](const char* key, json::value_t type) {
    const auto found = metadata.find(key);
    if (found == metadata.end()) return json();
    auto value = json::parse(found->second, nullptr, false);
    if (value.type() != type) fail<Corrupt>("{}: its metadata '{}' is damaged", path.string(), key);
    metadata.erase(found);
    return value;
  };
  Manifest manifest;
  std::vector<std::string> prefixes;
  for (const auto& name : take(kPartsKey, json::value_t::array)) {
    if (!name.is_string()) fail<Corrupt>("{}: '{}' is no name of a part", path.string(), kPartsKey);
    prefixes.push_back(name.get<std::string>());
  }
  auto state = take(kStateKey, json::value_t::object);
  if (state.is_null()) state = json::object();
  for (const auto& rank : take(kRanksKey, json::value_t::array)) {
    manifest.rank_states.push_back(rank.dump());
  }
  if (!metadata.empty()) state["metadata"] = metadata;
  manifest.state = state.dump();
  add_file(manifest, file, "model", prefixes);
  return manifest;
}

Manifest of_training_step(const fs::path& directory) {
  Manifest manifest;
  const auto saved = read_saved_files(directory);
  for (const auto& file : saved.files) {
    const auto part = fs::path(file.name).stem().string();
    const SafeTensors tensors(directory / file.name);
    if (part == "model") {
      auto state = json::parse(saved.state);
      state["metadata"] = tensors.metadata();
      manifest.state = state.dump();
    }
    add_file(manifest, tensors, part, {});
    manifest.files.back().bytes = file.bytes;
    manifest.files.back().xxh3 = file.xxh3;
  }
  return manifest;
}

}  // namespace

struct Source::Impl {
  fs::path path;
  fs::path directory;
  bool sharded = false;
  std::uint64_t fingerprint = 0;
  Manifest manifest;
  std::vector<std::unique_ptr<ShardReader>> readers;        // as manifest.files; made when needed
  std::vector<std::shared_ptr<data::MappedFile>> mappings;  // likewise

  const ShardReader& reader(std::size_t file) {
    if (!readers[file]) readers[file] = std::make_unique<ShardReader>(directory, manifest, file);
    return *readers[file];
  }
  const data::MappedFile& mapping(std::size_t file) {
    if (!mappings[file]) mappings[file] = data::MappedFile::open(reader(file).path());
    return *mappings[file];
  }
  void read(const TensorEntry& tensor, Elems begin, Elems end, std::byte* to);
};

Source::Source(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {
  impl_->readers.resize(impl_->manifest.files.size());
  impl_->mappings.resize(impl_->manifest.files.size());
}
Source::~Source() = default;
Source::Source(Source&&) noexcept = default;
Source& Source::operator=(Source&&) noexcept = default;

Source Source::open(const fs::path& path) {
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    impl->directory = path.has_parent_path() ? path.parent_path() : fs::path(".");
    impl->manifest = of_single_file(path);
    impl->fingerprint = sum(to_text(impl->manifest));
    return Source(std::move(impl));
  }
  impl->directory = path;
  const auto manifest = path / kManifestFile;
  if (fs::exists(manifest, error)) {
    const auto file = data::MappedFile::open(manifest);
    const std::string_view text(reinterpret_cast<const char*>(file->bytes().data()),
                                file->bytes().size());
    impl->manifest = parse_manifest(text, manifest.string());
    impl->fingerprint = sum(text);
    impl->sharded = true;
  } else if (!fs::exists(path / kStateFile, error)) {
    fail<IoError>("{}: there is no checkpoint in it (expected {} or {})", path.string(),
                  kManifestFile, kStateFile);
  } else {
    impl->manifest = of_training_step(path);
    impl->fingerprint = sum(to_text(impl->manifest));
  }
  return Source(std::move(impl));
}

const Manifest& Source::manifest() const { return impl_->manifest; }
std::string Source::name() const { return impl_->path.string(); }
bool Source::is_sharded() const { return impl_->sharded; }
std::uint64_t Source::fingerprint() const { return impl_->fingerprint; }

void Source::verify(std::size_t file) const { impl_->reader(file).verify(impl_->sharded); }

void Source::verify_all() const {
  for (std::size_t i = 0; i < manifest().files.size(); ++i) verify(i);
}

// Elements [begin, end) as they are on the disk.
void Source::Impl::read(const TensorEntry& tensor, Elems begin, Elems end, std::byte* to) {
  auto piece = std::upper_bound(tensor.pieces.begin(), tensor.pieces.end(), begin,
                                [](Elems at, const PieceEntry& p) { return at < p.begin; });
  while (begin < end) {
    const auto& from = *std::prev(piece);  // the pieces have no holes
    const auto stop = std::min(end, from.begin + from.count);
    const auto size = bytes_of(stop - begin, tensor.dtype).size();
    reader(from.file).read(from.offset + bytes_of(begin - from.begin, tensor.dtype).size(),
                           {to, size});
    to += size;
    begin = stop;
    ++piece;
  }
}

void Source::read(const TensorEntry& tensor, Elems begin, const Tensor& to) const {
  constexpr std::int64_t kChunk = 1 << 18;  // elements that are converted at once
  const NoGrad no_grad;
  const auto count = to.numel();
  if (begin.value < 0 || elements_of(tensor.shape) < begin + Elems(count)) {
    fail<InvalidArgument>("{}: tensor '{}' has {} elements, [{}, {}) were asked for", name(),
                          tensor.name, elements_of(tensor.shape).value, begin.value,
                          begin.value + count);
  }
  if (count == 0) return;
  const bool direct = to.device() == Device{} && to.is_contiguous();
  if (direct && to.dtype() == tensor.dtype) {
    impl_->read(tensor, begin, begin + Elems(count), static_cast<std::byte*>(to.data()));
    to.storage()->mark_written();
    return;
  }
  const auto flat = to.is_contiguous() ? to.view({count}) : Tensor::empty({count}, {to.dtype()});
  const auto chunk = Tensor::empty({std::min(count, kChunk)}, {tensor.dtype});
  for (std::int64_t at = 0; at < count; at += kChunk) {
    const auto n = std::min(kChunk, count - at);
    impl_->read(tensor, begin + Elems(at), begin + Elems(at + n),
                static_cast<std::byte*>(chunk.data()));
    flat.narrow(0, at, n).copy_(chunk.narrow(0, 0, n));
  }
  if (!to.is_contiguous()) to.copy_(flat.view(to.shape()));
}

Tensor Source::tensor(const TensorEntry& tensor) const {
  const auto width = size_of(tensor.dtype).size();
  if (tensor.pieces.size() == 1 && tensor.pieces.front().offset % width == 0) {
    const auto& piece = tensor.pieces.front();
    const auto& file = impl_->mapping(piece.file);
    auto storage =
        tensor::Storage::borrow(file.bytes().data() + piece.offset,
                                bytes_of(piece.count, tensor.dtype), impl_->mappings[piece.file]);
    return Tensor::wrap(std::move(storage), tensor.shape, tensor.dtype);
  }
  auto whole = Tensor::empty(tensor.shape, {tensor.dtype});
  read(tensor, Elems(0), whole);
  return whole;
}

const PartEntry& Source::part(const std::string& wanted) const {
  const auto* found = manifest().find(wanted);
  if (found != nullptr) return *found;
  std::string known;
  for (const auto& part : manifest().parts) known += (known.empty() ? "" : ", ") + part.name;
  fail<Mismatch>("{}: it was saved without a part '{}'; there is: {}", name(), wanted,
                 known.empty() ? "nothing" : known);
}

Metadata Source::metadata() const {
  const auto state = json::parse(manifest().state, nullptr, false);
  try {
    return state.contains("metadata") ? state.at("metadata").get<Metadata>() : Metadata{};
  } catch (const json::exception& error) {
    fail<Corrupt>("{}: its metadata: {}", name(), error.what());
  }
}

void Source::adapt(const std::string& wanted, const nn::Module& module) {
  part(wanted);  // is there
  auto& tensors = std::find_if(impl_->manifest.parts.begin(), impl_->manifest.parts.end(),
                               [&](const PartEntry& entry) { return entry.name == wanted; })
                      ->tensors;
  std::set<std::string> known;
  for (const auto& entry : module.state_dict()) known.insert(entry.name);
  if (std::all_of(tensors.begin(), tensors.end(),
                  [&](const TensorEntry& entry) { return known.contains(entry.name); })) {
    return;
  }
  const auto given = state_dict(wanted);
  std::map<const void*, const TensorEntry*> origin;
  for (std::size_t i = 0; i < given.size(); ++i) origin[given[i].tensor.impl()] = &tensors[i];
  std::vector<TensorEntry> renamed;
  for (const auto& [called, tensor] : module.adapted(given, name())) {
    renamed.push_back(*origin.at(tensor.impl()));
    renamed.back().name = called;
  }
  std::sort(renamed.begin(), renamed.end(),
            [](const TensorEntry& a, const TensorEntry& b) { return a.name < b.name; });
  tensors = std::move(renamed);
}

nn::StateDict Source::state_dict(const std::string& wanted) const {
  nn::StateDict result;
  for (const auto& entry : part(wanted).tensors) result.push_back({entry.name, tensor(entry)});
  return result;
}

}  // namespace weft::checkpoint
