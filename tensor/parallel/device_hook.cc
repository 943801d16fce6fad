#include "tensor/parallel/device_hook.h"

#include "comm/cuda_communicator.h"

namespace weft::parallel {

void DeviceHook::regroup(std::span<const GradBucket> /*buckets*/) {}

void DeviceHook::launch(const GradBucket& bucket, Communicator& communicator) {
  const auto device = side_.device();
  const auto& buffer = bucket.buffer;
  side_.wait(tensor::Stream::current(device));
  buffer.record_stream(side_);
  communicator.cuda(device.index)
      .all_reduce(comm::View(buffer.data(), Elems(buffer.numel()), buffer.dtype()), ReduceOp::avg,
                  side_.handle());
}

std::chrono::nanoseconds DeviceHook::finish(const GradBucket& /*bucket*/,
                                            Communicator& communicator) {
  const auto device = side_.device();
  communicator.cuda(device.index).check();
  tensor::Stream::current(device).wait(side_);
  return std::chrono::nanoseconds(0);
}

}  // namespace weft::parallel
