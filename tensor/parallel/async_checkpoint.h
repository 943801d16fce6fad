// Checkpoints that are written while training goes on.
#pragma once

#include <exception>
#include <filesystem>
#include <optional>
#include <thread>

#include "tensor/parallel/checkpoint.h"

namespace weft::parallel {

// save() copies what this rank is to write and returns; a thread of low priority does the rest of
// save_sharded(), over a communicator of its own. One is under way at a time. A failed one leaves
// the earlier checkpoints, and is told by the next save() or wait(), as save_sharded() would have
// told it, on all ranks alike; by the destructor, on stderr. One thread uses it.
class AsyncCheckpoint {
 public:
  explicit AsyncCheckpoint(Communicator& communicator);  // collective; keeps no reference
  ~AsyncCheckpoint();                                    // waits
  AsyncCheckpoint(const AsyncCheckpoint&) = delete;
  AsyncCheckpoint& operator=(const AsyncCheckpoint&) = delete;

  // Waits for the one before, and throws its failure instead of beginning this one. Collective;
  // `communicator` is the one that the caller's other collectives go over.
  void save(const std::filesystem::path& place, const ShardedState& state,
            Communicator& communicator, const SaveShardedOptions& options = {});
  // Until the last one is on the disk. Throws its failure, once. Collective.
  void wait();

 private:
  void join();

  std::optional<Communicator> communicator_;
  Tensor memory_;  // of snapshots
  std::thread thread_;
  std::exception_ptr failure_;
};

}  // namespace weft::parallel
