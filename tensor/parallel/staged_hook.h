// Averages gradients that lie on a CUDA device through the host: each bucket goes to pinned host
// memory, is averaged there by another hook over the communicator's host transports, and comes
// back. Works between any ranks, on any device.
//
// Copies run on a stream of their own, ordered by events after the gradients and before what the
// caller's stream does next, so that they and the collectives overlap with backward.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "tensor/parallel/comm_hook.h"
#include "tensor/stream.h"

namespace weft::parallel {

class StagedHook : public CommHook {
 public:
  StagedHook(std::shared_ptr<CommHook> on_host, Device device);

  void regroup(std::span<const GradBucket> buckets) override;
  void launch(const GradBucket& bucket, Communicator& communicator) override;
  void proceed(const GradBucket& bucket, Communicator& communicator) override;
  std::chrono::nanoseconds finish(const GradBucket& bucket, Communicator& communicator) override;

 private:
  struct Slot {
    GradBucket on_host;     // the same parts; the buffer is pinned memory
    tensor::Event arrived;  // all of it
    bool started = false;   // the host's hook was given it
  };
  Slot& at(const GradBucket& bucket) { return slots_.at(static_cast<std::size_t>(bucket.index)); }
  // Gives the host's hook the buckets up to `end`, as far as they have arrived (or all, waiting).
  void start_arrived(std::size_t end, bool waiting, Communicator& communicator);

  std::shared_ptr<CommHook> hook_;
  tensor::Stream side_;
  std::vector<Slot> slots_;
  std::size_t next_ = 0;      // the first that was not started
  std::size_t launched_ = 0;  // how many are on their way to the host
};

// Collective: gives every rank the root's values, wherever the tensor (contiguous) lies.
void broadcast_values(const Tensor& tensor, int root, Communicator& communicator);

}  // namespace weft::parallel
