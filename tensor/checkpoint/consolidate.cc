#include "tensor/checkpoint/consolidate.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <span>

#include "kernels/base/error.h"
#include "tensor/checkpoint/atomic_file.h"
#include "tensor/checkpoint/rank_files.h"
#include "tensor/checkpoint/steps.h"

namespace weft::checkpoint {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::int64_t kChunk = 1 << 20;  // elements in memory at a time
constexpr int kShardsMax = 1 << 16;

struct Entry {
  EntryInfo info;  // as in the new file
  const TensorEntry* tensor;
};

std::vector<Entry> entries_of(const Source& source, bool everything) {
  std::vector<Entry> entries;
  const auto& parts = source.manifest().parts;
  const bool only = parts.size() == 1;
  const auto& model = everything || only ? parts.front() : source.part("model");
  for (const auto& part : parts) {
    if (!everything && &part != &model) continue;
    for (const auto& tensor : part.tensors) {
      const auto name = everything ? part.name + "." + tensor.name : tensor.name;
      entries.push_back({{name, tensor.dtype, tensor.shape}, &tensor});
    }
  }
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return serializes_before(a.info, b.info); });
  return entries;
}

Metadata metadata_of(const Source& source, bool everything) {
  auto metadata = source.metadata();
  if (!everything) return metadata;
  auto state = json::parse(source.manifest().state);
  state.erase("metadata");
  auto parts = json::array();
  for (const auto& part : source.manifest().parts) parts.push_back(part.name);
  auto ranks = json::array();
  for (const auto& rank : source.manifest().rank_states) ranks.push_back(json::parse(rank));
  metadata[kPartsKey] = parts.dump();
  metadata[kStateKey] = state.dump();
  metadata[kRanksKey] = ranks.dump();
  return metadata;
}

void copy(const Source& source, const TensorEntry& tensor, TensorFileWriter& writer) {
  const auto count = elements_of(tensor.shape).value;
  const auto chunk = Tensor::empty({std::min(count, kChunk)}, {tensor.dtype});
  for (std::int64_t at = 0; at < count; at += kChunk) {
    const auto part = chunk.narrow(0, 0, std::min(kChunk, count - at));
    source.read(tensor, Elems(at), part);
    writer.append({static_cast<const std::byte*>(part.data()),
                   bytes_of(Elems(part.numel()), tensor.dtype).size()});
  }
}

// What a rank that holds all of it would say.
HeldParts held_whole(const Source& source) {
  HeldParts held;
  for (const auto& part : source.manifest().parts) {
    held.push_back({part.name, {}});
    for (const auto& tensor : part.tensors) {
      held.back().shards.push_back(
          {tensor.name, tensor.dtype, tensor.shape, Elems(0), elements_of(tensor.shape)});
    }
  }
  return held;
}

RankFiles files_of(const Source& source, const SavePlan& plan, int rank) {
  RankFiles files;
  files.rank = rank;
  files.world_size = plan.manifest.world_size;
  files.plan = plan.ranks[static_cast<std::size_t>(rank)];
  for (const auto& part : source.manifest().parts) files.parts.push_back(part.name);
  for (const auto& piece : files.plan) {
    const auto& tensor = source.manifest().parts[piece.part].tensors[piece.shard];
    files.pieces.push_back({tensor.name, tensor.dtype, tensor.shape, piece.begin, piece.count,
                            [&source, &tensor, piece] {
                              auto data = Tensor::empty({piece.count.value}, {tensor.dtype});
                              source.read(tensor, piece.begin, data);
                              return data;
                            }});
  }
  return files;
}

}  // namespace

void consolidate(const Source& source, const fs::path& file, const ConsolidateOptions& options) {
  if (source.manifest().parts.empty()) {
    fail<Mismatch>("{}: there is nothing in it to consolidate", source.name());
  }
  const auto entries = entries_of(source, options.everything);
  source.verify_all();
  std::vector<EntryInfo> infos;
  for (const auto& entry : entries) infos.push_back(entry.info);
  TensorFileWriter writer(file, infos, metadata_of(source, options.everything));
  for (const auto& entry : entries) copy(source, *entry.tensor, writer);
  writer.commit();
}

void split(const Source& source, int shards, const fs::path& place) {
  const auto directory = place.has_filename() ? place : place.parent_path();  // "out/" is "out"
  if (shards < 1 || shards > kShardsMax) {
    fail<InvalidArgument>("{} shards were asked for, expected 1 to {}", shards, kShardsMax);
  }
  source.verify_all();
  auto plan =
      plan_save(std::vector<HeldParts>(static_cast<std::size_t>(shards), held_whole(source)));
  plan.manifest.state = source.manifest().state;
  plan.manifest.rank_states = source.manifest().rank_states;
  prepare_directory(directory.has_parent_path() ? directory.parent_path() : fs::path("."));
  AtomicDirectory target(directory);
  std::vector<std::string> reports;
  for (int rank = 0; rank < shards; ++rank) {
    reports.push_back(write_rank_files(files_of(source, plan, rank), target.temporary()));
  }
  write_manifest(target.temporary(), plan, reports);
  target.commit();
}

}  // namespace weft::checkpoint
