#include "tensor/parallel/device_hook.h"

#include <cmath>

#include "comm/cuda_communicator.h"

namespace weft::parallel {

void DeviceHook::regroup(std::span<const GradBucket> buckets) { times_.assign(buckets.size(), {}); }

void DeviceHook::launch(const GradBucket& bucket, Communicator& communicator) {
  const auto device = side_.device();
  const auto& buffer = bucket.buffer;
  side_.wait(tensor::Stream::current(device));
  buffer.record_stream(side_);
  auto& time = times_.at(static_cast<std::size_t>(bucket.index));
  const bool timed = !side_.is_capturing();
  if (!timed) {
    time = {};
  } else {
    if (time.end.is_recorded() && time.end.is_done()) {
      time.known = std::chrono::nanoseconds(std::llround(time.end.ms_since(time.start) * 1e6));
    }
    time.start.record(side_);
  }
  communicator.cuda(device.index)
      .all_reduce(comm::View(buffer.data(), Elems(buffer.numel()), buffer.dtype()), ReduceOp::avg,
                  side_.handle());
  if (timed) time.end.record(side_);
}

std::chrono::nanoseconds DeviceHook::finish(const GradBucket& bucket, Communicator& communicator) {
  const auto device = side_.device();
  communicator.cuda(device.index).check();
  tensor::Stream::current(device).wait(side_);
  return times_.at(static_cast<std::size_t>(bucket.index)).known;
}

}  // namespace weft::parallel
