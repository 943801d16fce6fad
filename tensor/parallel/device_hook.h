// Averages gradients where they lie, on a CUDA device: one all-reduce a bucket, on a stream of its
// own beside backward, without the host (comm/cuda_communicator.h). May be captured into a graph
// together with the step.
#pragma once

#include <chrono>
#include <vector>

#include "tensor/parallel/comm_hook.h"
#include "tensor/stream.h"

namespace weft::parallel {

class DeviceHook : public CommHook {
 public:
  explicit DeviceHook(Device device) : side_(tensor::Stream::create(device)) {}

  void regroup(std::span<const GradBucket> buckets) override;
  void launch(const GradBucket& bucket, Communicator& communicator) override;
  // What follows on the current stream waits for the average; the host does not, so that the time
  // it took is not known yet: gives that of an earlier step, the last one known when the bucket was
  // launched. Zero before there is one, and while captured. Throws what the communicator has failed
  // with.
  std::chrono::nanoseconds finish(const GradBucket& bucket, Communicator& communicator) override;

 private:
  struct Timed {
    tensor::Event start{tensor::Event::Timing::yes}, end{tensor::Event::Timing::yes};
    std::chrono::nanoseconds known{0};
  };
  tensor::Stream side_;
  std::vector<Timed> times_;  // by bucket
};

}  // namespace weft::parallel
