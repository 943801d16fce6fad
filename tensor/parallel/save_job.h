// One save of a sharded checkpoint, from the plan to the rename. checkpoint.h and
// async_checkpoint.h are its users.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "tensor/checkpoint/rank_files.h"
#include "tensor/parallel/checkpoint.h"

namespace weft::parallel {

// Who writes what. The tensors of shards are held, and looked at when their pieces are asked for.
struct AgreedSave {
  checkpoint::RankFiles files;  // this rank's
  checkpoint::SavePlan plan;    // rank 0's
};
// Collective. Errors as save_sharded()'s, alike on all ranks.
AgreedSave agree_on_save(const ShardedState& state, Communicator& communicator,
                         bool by_root = false);  // as plan_save()

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
  std::filesystem::path place_;
  int keep_last_;
  AgreedSave agreed_;
};

}  // namespace weft::parallel
