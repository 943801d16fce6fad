#include "tensor/parallel/save_job.h"

#include <charconv>
#include <cstring>
#include <map>
#include <optional>
#include <span>

#include "tensor/autograd/node.h"
#include "tensor/checkpoint/atomic_file.h"
#include "tensor/parallel/agree.h"

namespace weft::parallel {
namespace {

namespace fs = std::filesystem;
using checkpoint::PlannedPiece;
using checkpoint::ShardPiece;
using checkpoint::WrittenFile;

constexpr std::int64_t kAlignment = 64;  // of pieces in a snapshot, bytes

// Elements of a shard, in a row on the host.
Tensor on_host(const Tensor& data, Elems begin, Elems count) {
  const NoGrad no_grad;
  const auto flat = data.detach().contiguous().view({data.numel()});
  return flat.narrow(0, begin.value, count.value).to(Device{});
}

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

SaveJob::SaveJob(fs::path place, const ShardedState& state, Communicator& communicator,
                 const SaveShardedOptions& options)
    : place_(std::move(place)), keep_last_(options.keep_last), world_size_(communicator.size()) {
  if (!place_.has_filename()) place_ = place_.parent_path();  // "out/" is "out"
  plan(state, communicator);
}

void SaveJob::plan(const ShardedState& state, Communicator& communicator) {
  std::string held;
  together(communicator, [&] {
    checkpoint::check_keep(place_, keep_last_);
    held = encode(checkpoint::describe(state.parts));
  });
  const auto all_held = gather_texts(communicator, held);
  auto rank_states = gather_texts(communicator, state.rank_state);
  std::vector<std::string> plans;
  together(communicator, [&] {
    if (communicator.rank() != 0) return;
    std::vector<checkpoint::HeldParts> ranks;
    for (const auto& text : all_held) ranks.push_back(checkpoint::decode_held(text));
    plan_ = checkpoint::plan_save(ranks);
    plan_.manifest.state = state.state;
    plan_.manifest.rank_states = std::move(rank_states);
    to_text(plan_.manifest);  // now, rather than after all is written: are the states JSON?
    for (const auto& plan : plan_.ranks) plans.push_back(encode(plan));
  });
  mine_ = checkpoint::decode_plan(scatter_texts(communicator, plans));
  for (const auto& part : state.parts) part_names_.push_back(part.name);
  for (const auto& piece : mine_) {
    const auto& shard = state.parts[piece.part].shards[piece.shard];
    const auto begin = piece.begin - shard.begin;
    pieces_.push_back(
        {shard.name, shard.data.dtype(), shard.shape, piece.begin, piece.count,
         [data = shard.data, begin, count = piece.count] { return on_host(data, begin, count); }});
  }
}

void SaveJob::snapshot(Tensor& memory) {
  const NoGrad no_grad;
  std::vector<std::int64_t> offsets;
  std::int64_t bytes = 0;
  for (const auto& piece : pieces_) {
    offsets.push_back(bytes);
    bytes += bytes_of(piece.count, piece.dtype).value;
    bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  }
  if (!memory.defined() || memory.numel() < bytes) {
    memory = {};
    memory = Tensor::empty({bytes}, {DType::u8});
  }
  for (std::size_t i = 0; i < pieces_.size(); ++i) {
    auto& piece = pieces_[i];
    auto storage = tensor::Storage::borrow(memory.storage()->data() + offsets[i],
                                           bytes_of(piece.count, piece.dtype), memory.storage());
    const auto copy = Tensor::wrap(std::move(storage), {piece.count.value}, piece.dtype);
    copy.copy_(piece.data());
    piece.data = [copy] { return copy; };
  }
}

// Gives, for the manifest: of each part in order, bytes and sum of the file (0 without one), then
// offset and sum of each piece of the plan.
std::string SaveJob::write_own_files(const fs::path& directory, int rank) const {
  std::vector<std::uint64_t> report;
  std::vector<std::uint64_t> pieces(2 * mine_.size());
  for (std::size_t part = 0; part < part_names_.size(); ++part) {
    std::vector<ShardPiece> own;
    std::vector<std::size_t> index;
    for (std::size_t i = 0; i < mine_.size(); ++i) {
      if (mine_[i].part != part) continue;
      own.push_back(pieces_[i]);
      index.push_back(i);
    }
    WrittenFile written;
    if (!own.empty()) {
      const auto& name = part_names_[part];
      written = write_shard_file(
          directory / checkpoint::shard_file_name(name, rank, world_size_), own,
          {{"weft.part", name}, {"weft.rank", fmt::format("{} of {}", rank, world_size_)}});
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

void SaveJob::write_manifest(const fs::path& directory,
                             const std::vector<std::string>& reports) const {
  auto manifest = plan_.manifest;
  std::map<std::string, std::size_t> files;
  for (std::size_t i = 0; i < manifest.files.size(); ++i) files[manifest.files[i].name] = i;
  for (std::size_t r = 0; r < reports.size(); ++r) {
    const auto numbers = numbers_of(reports[r]);
    const auto& places = plan_.places[r];
    const auto parts = (numbers.size() - 2 * places.size()) / 2;
    const auto* piece_numbers = numbers.data() + 2 * parts;
    for (std::size_t i = 0; i < places.size(); ++i) {
      auto& entry =
          manifest.parts[places[i].part].tensors[places[i].tensor].pieces[places[i].piece];
      entry.offset = piece_numbers[2 * i];
      entry.xxh3 = piece_numbers[2 * i + 1];
      auto& file = manifest.files[entry.file];
      const auto part = plan_.ranks[r][i].part;
      file.bytes = numbers[2 * part];
      file.xxh3 = numbers[2 * part + 1];
    }
  }
  const auto text = to_text(manifest);
  checkpoint::AtomicFile file(directory / checkpoint::kManifestFile);
  file.write(std::as_bytes(std::span(text)));
  file.commit();
}

void SaveJob::write(Communicator& communicator) const {
  const bool is_root = communicator.rank() == 0;
  std::optional<checkpoint::AtomicDirectory> directory;  // rank 0's: goes with it on any failure
  together(communicator, [&] {
    if (!is_root) return;
    checkpoint::prepare_directory(place_.has_parent_path() ? place_.parent_path() : fs::path("."));
    directory.emplace(place_);
  });
  const fs::path temporary =
      broadcast_text(communicator, is_root ? directory->temporary().string() : std::string());
  std::string report;
  together(communicator, [&] { report = write_own_files(temporary, communicator.rank()); });
  const auto reports = gather_texts(communicator, report);
  together(communicator, [&] {
    if (!is_root) return;
    write_manifest(temporary, reports);
    directory->commit();
    checkpoint::remove_older(place_, keep_last_);
  });
}

}  // namespace weft::parallel
