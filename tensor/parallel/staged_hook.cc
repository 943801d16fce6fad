#include "tensor/parallel/staged_hook.h"

#include <utility>

#include "tensor/autograd/node.h"

namespace weft::parallel {

using tensor::Stream;
using tensor::StreamGuard;

StagedHook::StagedHook(std::shared_ptr<CommHook> on_host, Device device)
    : hook_(std::move(on_host)), side_(Stream::create(device)) {}

void StagedHook::regroup(std::span<const GradBucket> buckets) {
  slots_.clear();
  std::vector<GradBucket> on_host;
  for (const auto& bucket : buckets) {
    auto& slot = slots_.emplace_back();
    slot.on_host = bucket;
    const auto bytes = bucket.buffer.storage()->bytes();
    slot.on_host.buffer = Tensor::wrap(tensor::Storage::allocate_pinned(bytes),
                                       bucket.buffer.shape(), bucket.buffer.dtype());
    on_host.push_back(slot.on_host);
  }
  next_ = launched_ = 0;
  hook_->regroup(on_host);
}

void StagedHook::launch(const GradBucket& bucket, Communicator& communicator) {
  const NoGrad no_grad;
  if (bucket.index == 0) next_ = launched_ = 0;
  auto& slot = at(bucket);
  const auto here = Stream::current(side_.device());
  if (here.is_capturing()) {
    fail<InvalidArgument>(
        "rank {} of {}: gradients are averaged through the host, which cannot be captured into a "
        "graph. Capture forward and backward inside no_sync, or train this model without a graph",
        communicator.rank(), communicator.size());
  }
  side_.wait(here);
  bucket.buffer.record_stream(side_);
  {
    const StreamGuard guard(side_);
    slot.on_host.buffer.copy_(bucket.buffer, true);
  }
  slot.arrived.record(side_);
  slot.started = false;
  launched_ = static_cast<std::size_t>(bucket.index) + 1;
  start_arrived(launched_, false, communicator);
}

void StagedHook::start_arrived(std::size_t end, bool waiting, Communicator& communicator) {
  for (; next_ < end; ++next_) {
    auto& slot = slots_[next_];
    if (waiting) slot.arrived.synchronize();
    if (!slot.arrived.is_done()) return;
    hook_->launch(slot.on_host, communicator);
    slot.started = true;
  }
}

void StagedHook::proceed(const GradBucket& bucket, Communicator& communicator) {
  // A hook's next collectives come after all of its first ones, on every rank in the same order.
  start_arrived(launched_, true, communicator);
  hook_->proceed(at(bucket).on_host, communicator);
}

std::chrono::nanoseconds StagedHook::finish(const GradBucket& bucket, Communicator& communicator) {
  const NoGrad no_grad;
  auto& slot = at(bucket);
  const auto duration = hook_->finish(slot.on_host, communicator);
  {
    const StreamGuard guard(side_);
    bucket.buffer.copy_(slot.on_host.buffer, true);
  }
  Stream::current(side_.device()).wait(side_);
  return duration;
}

void broadcast_values(const Tensor& tensor, int root, Communicator& communicator) {
  const NoGrad no_grad;
  const auto here = tensor.detach().to(Device{});
  communicator.broadcast(comm::View(here.data(), Elems(here.numel()), here.dtype()), root);
  if (tensor.device().type == DeviceType::cuda) tensor.detach().copy_(here);
}

}  // namespace weft::parallel
