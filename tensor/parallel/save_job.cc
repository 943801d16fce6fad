#include "tensor/parallel/save_job.h"

#include <optional>

#include "tensor/autograd/node.h"
#include "tensor/checkpoint/atomic_file.h"
#include "tensor/parallel/agree.h"

namespace weft::parallel {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kAlignment = 64;  // of pieces in a snapshot, bytes

// Elements of a shard, in a row on the host.
Tensor on_host(const Tensor& data, Elems begin, Elems count) {
  const NoGrad no_grad;
  const auto flat = data.detach().contiguous().view({data.numel()});
  return flat.narrow(0, begin.value, count.value).to(Device{});
}

}  // namespace

AgreedSave agree_on_save(const ShardedState& state, Communicator& communicator, bool by_root) {
  AgreedSave agreed;
  auto& [files, plan] = agreed;
  files.rank = communicator.rank();
  files.world_size = communicator.size();
  std::string held;
  together(communicator, [&] { held = encode(checkpoint::describe(state.parts)); });
  const auto all_held = gather_texts(communicator, held);
  auto rank_states = gather_texts(communicator, state.rank_state);
  std::vector<std::string> plans;
  together(communicator, [&] {
    if (communicator.rank() != 0) return;
    std::vector<checkpoint::HeldParts> ranks;
    for (const auto& text : all_held) ranks.push_back(checkpoint::decode_held(text));
    plan = checkpoint::plan_save(ranks, by_root);
    plan.manifest.state = state.state;
    plan.manifest.rank_states = std::move(rank_states);
    to_text(plan.manifest);  // now, rather than after all is written: are the states JSON?
    for (const auto& one : plan.ranks) plans.push_back(encode(one));
  });
  files.plan = checkpoint::decode_plan(scatter_texts(communicator, plans));
  for (const auto& part : state.parts) files.parts.push_back(part.name);
  for (const auto& piece : files.plan) {
    const auto& shard = state.parts[piece.part].shards[piece.shard];
    const auto begin = piece.begin - shard.begin;
    files.pieces.push_back(
        {shard.name, shard.data.dtype(), shard.shape, piece.begin, piece.count,
         [data = shard.data, begin, count = piece.count] { return on_host(data, begin, count); }});
  }
  return agreed;
}

SaveJob::SaveJob(fs::path place, const ShardedState& state, Communicator& communicator,
                 const SaveShardedOptions& options)
    : place_(std::move(place)), keep_last_(options.keep_last) {
  if (!place_.has_filename()) place_ = place_.parent_path();  // "out/" is "out"
  together(communicator, [&] { checkpoint::check_keep(place_, keep_last_); });
  agreed_ = agree_on_save(state, communicator);
}

void SaveJob::snapshot(Tensor& memory) {
  const NoGrad no_grad;
  std::vector<std::int64_t> offsets;
  std::int64_t bytes = 0;
  for (const auto& piece : agreed_.files.pieces) {
    offsets.push_back(bytes);
    bytes += bytes_of(piece.count, piece.dtype).value;
    bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  }
  if (!memory.defined() || memory.numel() < bytes) {
    memory = {};
    memory = Tensor::empty({bytes}, {DType::u8});
  }
  for (std::size_t i = 0; i < agreed_.files.pieces.size(); ++i) {
    auto& piece = agreed_.files.pieces[i];
    auto storage = tensor::Storage::borrow(memory.storage()->data() + offsets[i],
                                           bytes_of(piece.count, piece.dtype), memory.storage());
    const auto copy = Tensor::wrap(std::move(storage), {piece.count.value}, piece.dtype);
    copy.copy_(piece.data());
    piece.data = [copy] { return copy; };
  }
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
  together(communicator, [&] { report = checkpoint::write_rank_files(agreed_.files, temporary); });
  const auto reports = gather_texts(communicator, report);
  together(communicator, [&] {
    if (!is_root) return;
    checkpoint::write_manifest(temporary, agreed_.plan, reports);
    directory->commit();
    checkpoint::remove_older(place_, keep_last_);
  });
}

}  // namespace weft::parallel
