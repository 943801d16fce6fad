// One save of a sharded checkpoint, from the plan to the rename. checkpoint.h and
// async_checkpoint.h are its users.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "tensor/checkpoint/shard_file.h"
#include "tensor/parallel/checkpoint.h"

namespace weft::parallel {

class SaveJob {
 public:
  // Agrees on who writes what. Holds the shards' tensors from here on. Collective.
  SaveJob(std::filesystem::path place, const ShardedState& state, Communicator& communicator,
          const SaveShardedOptions& options);

  // Copies what this rank is to write into `memory` (grown as needed, to be used again): from here
  // on the shards may change.
  void snapshot(Tensor& memory);
  // Collective, on any communicator of the same ranks.
  void write(Communicator& communicator) const;

 private:
  void plan(const ShardedState& state, Communicator& communicator);
  std::string write_own_files(const std::filesystem::path& directory, int rank) const;
  void write_manifest(const std::filesystem::path& directory,
                      const std::vector<std::string>& reports) const;

  std::filesystem::path place_;
  int keep_last_;
  int world_size_;
  std::vector<std::string> part_names_;
  checkpoint::RankPlan mine_;
  std::vector<checkpoint::ShardPiece> pieces_;  // as mine_
  checkpoint::SavePlan plan_;                   // rank 0's
};

}  // namespace weft::parallel
