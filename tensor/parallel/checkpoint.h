// Checkpoints that all ranks write and read together: docs/checkpoints.md.
//
// Saving, every rank writes files of its own, in parallel, into a directory beside the checkpoint's
// place: what it alone holds, and its share of what several hold. Rank 0 writes the manifest once
// all have said that theirs are on the disk, and renames the directory. Any failure, of any rank at
// any moment, leaves what was there before; every rank throws the same error. All ranks must see
// one file system.
//
// Loading, ranks share out the files' checksums among them, and nobody changes anything before all
// of them and everything else are known to be right. Any number of ranks reads what any number has
// written, in any layout and floating type.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "tensor/checkpoint/shard_plan.h"
#include "tensor/checkpoint/source.h"
#include "tensor/checkpoint/training.h"

namespace weft::parallel {

using checkpoint::ShardedPart;
using checkpoint::ShardList;

struct ShardedState {
  std::vector<ShardedPart> parts;
  std::string state = "{}";       // a JSON object; rank 0's counts
  std::string rank_state = "{}";  // likewise, this rank's
};

struct SaveShardedOptions {
  // The newest checkpoints NAME-N beside this one that stay, this one included; 0: all.
  int keep_last = 0;
};

// Replaces `place` (rank 0's counts). Collective. Errors, alike on all ranks: IoError names the
// rank, the file and the system's reason; Mismatch and InvalidArgument where the shards of all
// ranks do not make whole tensors.
void save_sharded(const std::filesystem::path& place, const ShardedState& state,
                  Communicator& communicator, const SaveShardedOptions& options = {});

// An opened checkpoint that all ranks have seen alike and checked: Corrupt, IoError or Mismatch
// otherwise, the same on all ranks. Collective.
checkpoint::Source open_verified(const std::filesystem::path& place, Communicator& communicator);

// Fills the wished shards; each part by its name. Collective: together, the ranks must wish for
// every tensor of each part. Mismatch names every tensor that is missing, unexpected or differs,
// before anything has changed. A reading that fails halfway is an IoError that says so.
//
// Half-precision parameters: "<parameter>.master" that was not saved is filled from the parameter;
// saved, but not wished for, it fills the parameter.
struct LoadShardedOptions {
  bool strict = true;  // missing and unexpected tensors are an error
};
void load_sharded(const checkpoint::Source& source, const std::vector<ShardedPart>& wishes,
                  Communicator& communicator, const LoadShardedOptions& options = {});

// Modules, or optimizers that hold all of their state: every rank has the same, and all of it.
ShardList replicated(const nn::StateDict& tensors);

// --- training runs: out/step-N, as checkpoint::save_training, but written by all ranks.
std::filesystem::path save_training(const std::filesystem::path& out, const ShardList& model,
                                    const ShardList& optimizer,
                                    const checkpoint::TrainingState& state,
                                    Communicator& communicator,
                                    const checkpoint::SaveOptions& options = {});
// What save_training() saves; `generator` of `state` is this rank's.
ShardedState training_parts(const ShardList& model, const ShardList& optimizer,
                            const checkpoint::TrainingState& state,
                            const checkpoint::Metadata& metadata = {});
// Reads a step of either form into the wished shards.
checkpoint::TrainingState load_training(const std::filesystem::path& step, const ShardList& model,
                                        const ShardList& optimizer, Communicator& communicator);
// The same for a model and an optimizer that every rank holds whole.
checkpoint::TrainingState load_training(const std::filesystem::path& step, nn::Module& model,
                                        optim::Optimizer* optimizer, Communicator& communicator);

}  // namespace weft::parallel
