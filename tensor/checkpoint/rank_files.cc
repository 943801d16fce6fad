#include "tensor/checkpoint/rank_files.h"

#include <cstring>
#include <span>

#include "tensor/checkpoint/source.h"

namespace weft::checkpoint {
namespace {

namespace fs = std::filesystem;

std::vector<std::uint64_t> numbers_of(const std::string& text) {
  std::vector<std::uint64_t> numbers(text.size() / sizeof(std::uint64_t));
  std::memcpy(numbers.data(), text.data(), numbers.size() * sizeof(std::uint64_t));
  return numbers;
}

std::string text_of(const std::vector<std::uint64_t>& numbers) {
  std::string text(numbers.size() * sizeof(std::uint64_t), '\0');
  std::memcpy(text.data(), numbers.data(), text.size());
  return text;
}

}  // namespace

// The report: of each part in order, bytes and sum of the file (0 without one), then offset and sum
// of each piece of the plan.
std::string write_rank_files(const RankFiles& files, const fs::path& directory) {
  std::vector<std::uint64_t> report;
  std::vector<std::uint64_t> pieces(2 * files.plan.size());
  for (std::size_t part = 0; part < files.parts.size(); ++part) {
    std::vector<ShardPiece> own;
    std::vector<std::size_t> index;
    for (std::size_t i = 0; i < files.plan.size(); ++i) {
      if (files.plan[i].part != part) continue;
      own.push_back(files.pieces[i]);
      index.push_back(i);
    }
    WrittenFile written;
    if (!own.empty()) {
      const auto& name = files.parts[part];
      written =
          write_shard_file(directory / shard_file_name(name, files.rank, files.world_size), own,
                           {{"weft.part", name},
                            {"weft.rank", fmt::format("{} of {}", files.rank, files.world_size)}});
    }
    report.insert(report.end(), {written.bytes, written.xxh3});
    for (std::size_t i = 0; i < own.size(); ++i) {
      pieces[2 * index[i]] = written.pieces[i].offset;
      pieces[2 * index[i] + 1] = written.pieces[i].xxh3;
    }
  }
  report.insert(report.end(), pieces.begin(), pieces.end());
  return text_of(report);
}

void write_manifest(const fs::path& directory, const SavePlan& plan,
                    const std::vector<std::string>& reports) {
  auto manifest = plan.manifest;
  for (std::size_t r = 0; r < reports.size(); ++r) {
    const auto numbers = numbers_of(reports[r]);
    const auto& places = plan.places[r];
    const auto parts = (numbers.size() - 2 * places.size()) / 2;
    const auto* piece_numbers = numbers.data() + 2 * parts;
    for (std::size_t i = 0; i < places.size(); ++i) {
      auto& entry =
          manifest.parts[places[i].part].tensors[places[i].tensor].pieces[places[i].piece];
      entry.offset = piece_numbers[2 * i];
      entry.xxh3 = piece_numbers[2 * i + 1];
      auto& file = manifest.files[entry.file];
      const auto part = plan.ranks[r][i].part;
      file.bytes = numbers[2 * part];
      file.xxh3 = numbers[2 * part + 1];
    }
  }
  const auto text = to_text(manifest);
  AtomicFile file(directory / kManifestFile);
  file.write(std::as_bytes(std::span(text)));
  file.commit();
}

}  // namespace weft::checkpoint
