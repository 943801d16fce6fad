#include "tensor/parallel/zero.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/base/check.h"
#include "kernels/optimizer.h"
#include "tensor/optim/clip.h"
#include "tensor/parallel/agreement.h"
#include "tensor/parallel/staged_hook.h"
#include "tensor/parallel/zero_impl.h"

namespace weft::parallel {
namespace {

constexpr int kGradientSlots = 2;  // one that fills, one that is reduced

// Compared with the parameters: ranks that share out differently would wait for each other.
nn::NamedTensor described(const ZeroOptions& options) {
  std::string text = fmt::format("ZeRO stage {}, {} live units", options.stage, options.live_units);
  for (const auto& unit : options.units) text += ", unit " + unit;
  return {text, Tensor::zeros({})};
}

void check(const ZeroOptions& options, int rank) {
  if (options.stage < 1 || options.stage > 3) {
    fail<InvalidArgument>("rank {}: ZeRO has stages 1, 2 and 3, not {}.", rank, options.stage);
  }
  if (options.live_units < 1) {
    fail<InvalidArgument>("rank {}: ZeRO needs at least one live unit, not {}.", rank,
                          options.live_units);
  }
}

Bytes bytes_in(const Tensor& tensor) {
  return tensor.defined() ? bytes_of(Elems(tensor.numel()), tensor.dtype()) : Bytes(0);
}

}  // namespace

comm::View view_of(const Tensor& tensor) {
  return {tensor.data(), Elems(tensor.numel()), tensor.dtype()};
}

void Arena::allocate(Communicator& communicator) {
  auto held = std::make_shared<comm::SymmetricMemory>(communicator.allocate_symmetric(planned_));
  memory_ = {held, held->data()};
}

Tensor Arena::take(Elems count, DType dtype) {
  const auto bytes = bytes_of(count, dtype);
  WEFT_ASSERT(taken_ + lines(bytes) <= planned_, "what is taken was planned");
  auto storage = tensor::Storage::borrow(memory_.get() + taken_.value, bytes, memory_);
  taken_ += lines(bytes);
  return Tensor::wrap(std::move(storage), {count.value}, dtype);
}

int Slots::acquire(int unit) {
  const int first = unit == 0 ? 0 : 1, end = unit == 0 ? 1 : count();
  for (int slot = first; slot < end; ++slot) {
    auto& owner = owners_[static_cast<std::size_t>(slot)];
    if (owner != kNone) continue;
    owner = unit;
    return slot;
  }
  return kNone;
}

Tensor Slots::buffer(int slot, Elems count, DType dtype) const {
  return Tensor::wrap(buffers_[static_cast<std::size_t>(slot)].storage(), {count.value}, dtype);
}

// What a module tells, and what its operations are recorded in. Outlives the engine harmlessly.
struct Zero::Impl::Hook final : nn::ForwardObserver,
                                tensor::autograd::Region,
                                std::enable_shared_from_this<Hook> {
  Hook(std::weak_ptr<Impl> owner, int index) : impl(std::move(owner)), unit(index) {}
  void begin_forward() override {
    if (const auto zero = impl.lock()) zero->begin_forward(unit);
    scopes.push_back(std::make_unique<tensor::autograd::RegionScope>(shared_from_this()));
  }
  void end_forward() noexcept override {
    scopes.pop_back();
    if (const auto zero = impl.lock()) zero->end_forward(unit);
  }
  void enter_backward() override {
    if (const auto zero = impl.lock()) zero->enter_backward(unit);
  }
  std::weak_ptr<Impl> impl;
  int unit;
  std::vector<std::unique_ptr<tensor::autograd::RegionScope>> scopes;
};

Zero::Impl::Impl(nn::Module& module, Communicator& communicator, ZeroOptions options)
    : module_(module),
      parameters_(module.named_parameters()),
      communicator_(communicator),
      options_(std::move(options)) {
  check(options_, communicator.rank());
  for (const auto& entry : parameters_) {
    if (!entry.tensor.requires_grad()) whole_.push_back(entry);
  }
  for (auto& entry : module.named_buffers()) {
    buffers_.push_back(entry.tensor);
    whole_.push_back(std::move(entry));
  }
}

Zero::Impl::~Impl() {
  for (auto& unit : units_) {
    if (unit.hooks.empty()) continue;
    for (std::size_t i = 0; i < unit.parts.size(); ++i) {
      auto& parameter = unit.layout.parameters[i].tensor;
      parameter.remove_hook(unit.hooks[i]);
      parameter.set_grad_buffer({});
      tensor::set_part(parameter, nullptr);
    }
  }
}

void Zero::Impl::require_cpu() const {
  for (const auto& [name, tensor] : parameters_) {
    if (tensor.device().type == DeviceType::cpu && tensor.is_contiguous()) continue;
    if (tensor.device().type == DeviceType::cpu) {
      fail<InvalidArgument>(
          "rank {}: ZeRO needs contiguous parameters, but '{}' {} is a strided "
          "view. Train a clone().",
          communicator_.rank(), name, tensor::to_string(tensor.shape()));
    }
    fail<Unsupported>(
        "rank {}: ZeRO shares out parameters in host memory, but '{}' is on {}: this version of "
        "weft has no ZeRO on CUDA devices. Use strategy 'ddp' there, or accelerator 'cpu'.",
        communicator_.rank(), name, tensor::to_string(tensor.device()));
  }
}

void Zero::Impl::share_out() {
  require_cpu();
  for (const auto& [name, tensor] : parameters_) {
    if (!tensor::part_of(tensor)) continue;
    fail<InvalidArgument>("rank {}: '{}' is shared out by another Zero already.",
                          communicator_.rank(), name);
  }
  std::vector<nn::NamedTensor> all = parameters_;
  for (const auto& buffer : module_.named_buffers()) all.push_back(buffer);
  auto compared = all;
  compared.push_back(described(options_));
  verify_same_tensors(compared, communicator_);
  auto layouts = lay_out_units(module_, options_.units, communicator_.size());
  if (alone()) return;
  for (const auto& entry : all) broadcast_values(entry.tensor, 0, communicator_);
  for (auto& layout : layouts) units_.emplace_back().layout = std::move(layout);
  plan_memory();
  const NoGrad no_grad;
  for (int u = 0; u < unit_count(); ++u) {
    move_in(u);
    make_parts(u);
    if (options_.stage > 1) observe(u);
    at(u).next_forward = u > 0 && u + 1 < unit_count() ? u + 1 : Slots::kNone;
    at(u).next_backward = u > 1 ? u - 1 : Slots::kNone;
  }
  if (unit_count() > 1) first_forward_ = 1, first_backward_ = unit_count() - 1;
}

// Everything in one allocation, in the order in which it is taken.
void Zero::Impl::plan_memory() {
  const int ranks = communicator_.size(), stage = options_.stage;
  Bytes largest, own;
  for (int u = 0; u < unit_count(); ++u) {
    const auto& layout = at(u).layout;
    const Bytes share = bytes_of(layout.share, layout.dtype), whole = share * ranks;
    arena_.reserve(stage == 3 ? share : whole);
    arena_.reserve(stage == 1 ? whole : share);
    (u == 0 ? own : largest) = u == 0 ? whole : std::max(largest, whole);
  }
  const int units = unit_count() - 1;
  const int live = stage == 3 ? std::min(options_.live_units, units) : 0;
  const int gradient_slots = stage == 1 ? 0 : std::min(kGradientSlots, units);
  if (stage == 3) arena_.reserve(own);
  if (stage > 1) arena_.reserve(own);
  for (int i = 0; i < live + gradient_slots; ++i) arena_.reserve(largest);
  arena_.allocate(communicator_);
  for (auto& unit : units_) {
    const auto share = unit.layout.share, whole = share * ranks;
    const auto dtype = unit.layout.dtype;
    const auto cut = [&](const Tensor& flat) {
      return Tensor::wrap(flat.storage(), {share.value}, dtype, share.value * communicator_.rank());
    };
    if (stage == 3) unit.share = arena_.take(share, dtype);
    if (stage < 3) unit.whole = arena_.take(whole, dtype), unit.share = cut(unit.whole);
    if (stage > 1) unit.gradient_share = arena_.take(share, dtype);
    if (stage == 1) {
      unit.gradients = arena_.take(whole, dtype);
      unit.gradient_share = cut(unit.gradients);
    }
  }
  const auto bytes = [&](Bytes size) { return arena_.take(Elems(size.value), DType::u8); };
  if (stage == 3) unit_slots_.add(bytes(own));
  if (stage > 1) gradient_slots_.add(bytes(own));
  for (int i = 0; i < live; ++i) unit_slots_.add(bytes(largest));
  for (int i = 0; i < gradient_slots; ++i) gradient_slots_.add(bytes(largest));
}

// Values go where they will live from now on; what they lay in before is freed.
void Zero::Impl::move_in(int index) {
  auto& unit = at(index);
  const auto& parameters = unit.layout.parameters;
  if (parameters.empty()) return;
  const auto dtype = unit.layout.dtype;
  const bool whole = options_.stage < 3;
  if (whole) {
    unit.storage = unit.whole.storage();
  } else {
    unit.storage = tensor::Storage::borrow(
        arena_.memory().get(), bytes_of(unit.layout.share, dtype) * communicator_.size(),
        arena_.memory());
  }
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const auto& parameter = parameters[i].tensor;
    const auto range = part_in_share(unit.layout, i, communicator_.rank());
    const auto begin = unit.layout.begins[i].value;
    unit.ranges.push_back(range);
    if (whole) {
      Tensor::wrap(unit.storage, parameter.shape(), dtype, begin).copy_(parameter.detach());
    } else if (range.count > Elems(0)) {
      Tensor::wrap(unit.share.storage(), {range.count.value}, dtype, range.at.value)
          .copy_(parameter.detach().flatten().narrow(0, range.begin.value, range.count.value));
    }
    tensor::rebind(parameter, unit.storage, begin);
    if (!whole || options_.stage > 1) continue;
    Tensor(parameter).set_grad_buffer(
        Tensor::wrap(unit.gradients.storage(), parameter.shape(), dtype, begin));
  }
  if (!whole) unit.storage->move_to(nullptr);
}

void Zero::Impl::make_parts(int index) {
  auto& unit = at(index);
  const auto& parameters = unit.layout.parameters;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const auto& range = unit.ranges[i];
    auto part = std::make_shared<tensor::Part>();
    part->values = Tensor::wrap(unit.share.storage(), {range.count.value}, unit.layout.dtype,
                                unit.share.offset() + range.at.value);
    part->begin = range.begin.value;
    part->owner = weak_from_this();
    unit.parts.push_back(part->values);
    tensor::set_part(parameters[i].tensor, std::move(part));
    unit.hooks.push_back(
        parameters[i].tensor.on_grad_ready([weak = weak_from_this(), index, i](const Tensor&) {
          if (const auto zero = weak.lock()) zero->on_ready(index, i);
        }));
  }
}

void Zero::Impl::observe(int index) {
  at(index).layout.module->set_forward_observer(std::make_shared<Hook>(weak_from_this(), index));
}

void Zero::Impl::updated() {
  if (alone()) return;
  if (options_.stage < 3) return all_gather_parameters();
  if (gathered_) {
    fail<InvalidArgument>(
        "rank {}: parameters were updated while all of them are gathered, and what is gathered is "
        "old now. Let the Zero::Gathered end before the step.",
        communicator_.rank());
  }
  release_all();
}

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
  if (z.alone() || !z.synchronises_ || !std::all_of(z.units_.begin(), z.units_.end(), untouched))
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
    const Bytes share = bytes_of(unit.layout.share, unit.layout.dtype);
    const Bytes whole = share * z.communicator_.size();
    bytes.parameters += z.options_.stage == 3 ? share : whole;
    bytes.gradients += z.options_.stage == 1 ? whole : share;
    if (unit.slot != Slots::kNone || unit.gathered_whole.defined()) bytes.gathered += whole;
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
