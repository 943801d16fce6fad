#include "tensor/parallel/zero.h"

#include <algorithm>
#include <utility>

#include "tensor/nn/deferred_init.h"
#include "tensor/parallel/staged_hook.h"
#include "tensor/parallel/zero_impl.h"

namespace weft::parallel {
namespace {

Bytes bytes_in(const Tensor& tensor) {
  return tensor.defined() ? bytes_of(Elems(tensor.numel()), tensor.dtype()) : Bytes(0);
}

}  // namespace

Zero::Zero(nn::Module& module, Communicator& communicator, ZeroOptions options)
    : impl_(std::make_shared<Impl>(module, communicator, std::move(options))) {
  impl_->share_out();
}
Zero::~Zero() = default;

void Zero::require_gradients() {
  auto& z = *impl_;
  const auto untouched = [](const Impl::Unit& unit) {
    return unit.pending == unit.layout.parameters.size();
  };
  if (z.alone() || !z.synchronises_ || z.options_.find_unused_parameters ||
      !std::all_of(z.units_.begin(), z.units_.end(), untouched))
    return;
  z.release_all();
  z.in_backward_ = false;
  z.refuse_absent();
}

void Zero::begin_backward() {
  auto& z = *impl_;
  const int rank = z.communicator_.rank();
  if (z.in_backward_) {
    fail<InvalidArgument>(
        "rank {}: backward() of a Zero inside its own backward(): finish or cancel the first one.",
        rank);
  }
  if (z.broken_) {
    fail<Aborted>(
        "rank {}: an earlier backward() of this Zero failed while gradients were being averaged; "
        "the ranks may differ now. End the job, or make a new Zero on every rank.",
        rank);
  }
  z.in_backward_ = true;
  z.times_ = {};
  if (z.alone()) return;
  z.begin_gradients();
  z.gather_for_backward();
}

void Zero::finish_backward() {
  impl_->end_backward();
  if (!impl_->alone() && impl_->synchronises_) impl_->finish_gradients();
}

void Zero::cancel_backward() {
  impl_->end_backward();
  if (!impl_->alone()) impl_->drop_gradients();
}

bool Zero::synchronises() const { return impl_->synchronises_; }
void Zero::set_synchronises(bool on) {
  if (!on) impl_->carry_averages();
  impl_->synchronises_ = on;
}

void Zero::broadcast_buffers() {
  for (const auto& buffer : impl_->buffers_) broadcast_values(buffer, 0, impl_->communicator_);
}

EngineTimes Zero::last_times() const { return impl_->times_; }

Zero::Gathered::Gathered(Zero& zero, bool write_back) : zero_(zero), write_back_(write_back) {
  zero_.impl_->gather_whole();
}
Zero::Gathered::~Gathered() { zero_.impl_->release_whole(write_back_); }

checkpoint::ShardList Zero::parameter_shards() const {
  const auto& z = *impl_;
  checkpoint::ShardList shards;
  if (z.alone()) {
    for (const auto& [name, tensor] : z.parameters_) {
      if (!tensor.requires_grad()) continue;  // below
      shards.push_back({name, tensor.shape(), Elems(0), tensor.detach()});
    }
  }
  for (const auto& unit : z.units_) {
    for (std::size_t i = 0; i < unit.parts.size(); ++i) {
      const auto& [name, tensor] = unit.layout.parameters[i];
      shards.push_back({name, tensor.shape(), unit.ranges[i].begin, unit.parts[i].detach()});
    }
    for (std::size_t i = 0; i < unit.frozen.parts.size(); ++i) {
      const auto& [name, tensor] = unit.layout.frozen.parameters[i];
      shards.push_back(
          {name, tensor.shape(), unit.frozen.ranges[i].begin, unit.frozen.parts[i].detach()});
    }
  }
  for (const auto& [name, tensor] : z.whole_) {
    shards.push_back({name, tensor.shape(), Elems(0), tensor.detach()});
  }
  return shards;
}

void Zero::parameters_changed() {
  for (const auto& entry : impl_->parameters_) entry.tensor.storage()->mark_written();
  for (const auto& entry : impl_->whole_) entry.tensor.storage()->mark_written();
  impl_->updated();
}

ZeroBytes Zero::bytes() const {
  const auto& z = *impl_;
  ZeroBytes bytes;
  for (const auto& [name, tensor] : z.whole_) bytes.replicated += bytes_in(tensor);
  if (z.alone()) {
    for (const auto& [name, tensor] : z.parameters_) {
      if (!tensor.requires_grad()) continue;
      bytes.parameters += bytes_in(tensor);
      bytes.gradients += bytes_in(tensor.grad());
    }
    return bytes;
  }
  for (const auto& unit : z.units_) {
    const Bytes share = unit.layout.share_bytes(), whole = z.whole_bytes(unit);
    bytes.parameters += z.options_.stage == 3 ? share : whole;
    bytes.parameters += unit.layout.frozen.share_bytes();
    bytes.masters += bytes_in(unit.master);
    if (z.options_.stage == 1) bytes.gradients += whole;
    if (z.averages_apart()) bytes.gradients += bytes_in(unit.gradient_share);
    if (z.is_gathered(unit)) bytes.gathered += z.gathered_bytes(unit);
    if (z.options_.stage == 1) continue;
    if (unit.gradients.defined()) {
      bytes.in_flight += whole;
      continue;
    }
    for (const auto& entry : unit.layout.parameters)
      bytes.accumulated += bytes_in(entry.tensor.grad());
  }
  bytes.accumulated_peak = std::max(z.accumulated_peak_, bytes.accumulated);
  bytes.gathered_peak = z.gathered_peak_;
  bytes.in_flight_peak = z.in_flight_peak_;
  bytes.reserved = z.arena_.size() - bytes.parameters - bytes.gradients;
  return bytes;
}

std::vector<std::vector<std::string>> Zero::unit_layout() const {
  std::vector<std::vector<std::string>> layout;
  for (const auto& unit : impl_->units_) {
    auto& names = layout.emplace_back();
    for (const auto& entry : unit.layout.parameters) names.push_back(entry.name);
  }
  return layout;
}

}  // namespace weft::parallel
