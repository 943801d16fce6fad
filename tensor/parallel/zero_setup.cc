// How a module is shared out: what goes where, and who is told of what.
#include <algorithm>
#include <utility>

#include "kernels/base/check.h"
#include "tensor/deferred.h"
#include "tensor/nn/deferred_init.h"
#include "tensor/parallel/agreement.h"
#include "tensor/parallel/staged_hook.h"
#include "tensor/parallel/zero_impl.h"

namespace weft::parallel {
namespace {

// Compared with the parameters: ranks that share out differently would wait for each other.
nn::NamedTensor described(const ZeroOptions& options) {
  std::string text = fmt::format("ZeRO stage {}, {} live units", options.stage, options.live_units);
  if (options.low) text += fmt::format(", {} gathered", name_of(*options.low));
  if (options.find_unused_parameters) text += ", unused parameters";
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
  if (options.low && !is_half(*options.low)) {
    fail<InvalidArgument>("rank {}: ZeroOptions::low is f16 or bf16, not {}.", rank,
                          name_of(*options.low));
  }
}

// This rank's elements of a flat copy of `values`, into `share` where they belong.
void copy_range(const Tensor& share, const Tensor& values, const PartRange& range) {
  if (range.count == Elems(0)) return;
  share.narrow(0, range.at.value, range.count.value)
      .copy_(values.flatten().narrow(0, range.begin.value, range.count.value));
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

Tensor Slots::buffer(int slot, Elems count, DType dtype, Bytes at) const {
  return Tensor::wrap(buffers_[static_cast<std::size_t>(slot)].storage(), {count.value}, dtype,
                      at.value / size_of(dtype).value);
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
}

Zero::Impl::~Impl() {
  for (auto& unit : units_) {
    for (const auto& entry : unit.layout.frozen.parameters) {
      tensor::set_part(entry.tensor, nullptr);
    }
    for (std::size_t i = 0; i < unit.hooks.size(); ++i) {
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

// Masters are f32, whatever the parameters were.
void Zero::Impl::require_f32() const {
  for (const auto& [name, tensor] : parameters_) {
    if (!tensor.requires_grad() || tensor.dtype() == DType::f32) continue;
    fail<InvalidArgument>(
        "rank {}: ZeroOptions::low {} is for f32 parameters, but '{}' is {}. Leave it out, or "
        "convert the module to f32 first.",
        communicator_.rank(), name_of(*options_.low), name, name_of(tensor.dtype()));
  }
}

void Zero::Impl::share_out() {
  require_cpu();
  for (const auto& [name, tensor] : parameters_) {
    if (!tensor::part_of(tensor)) continue;
    fail<InvalidArgument>("rank {}: '{}' is shared out by another Zero already.",
                          communicator_.rank(), name);
  }
  if (options_.low) require_f32();
  auto compared = parameters_;
  for (const auto& buffer : module_.named_buffers()) compared.push_back(buffer);
  compared.push_back(described(options_));
  verify_same_tensors(compared, communicator_);
  compared.clear();
  if (lowered()) {
    module_.defer_trained_to(*options_.low);
    parameters_ = module_.named_parameters();
  }
  const bool shares_frozen = options_.stage == 3 && !alone();
  for (const auto& entry : parameters_) {
    if (!entry.tensor.requires_grad() && !shares_frozen) whole_.push_back(entry);
  }
  for (auto& entry : module_.named_buffers()) {
    buffers_.push_back(entry.tensor);
    whole_.push_back(std::move(entry));
  }
  auto layouts = lay_out_units(module_, options_.units, communicator_.size(), shares_frozen);
  if (alone()) return nn::materialize(module_);
  for (const auto& entry : whole_) {
    tensor::materialize(entry.tensor);
    broadcast_values(entry.tensor, 0, communicator_);
  }
  for (auto& layout : layouts) units_.emplace_back().layout = std::move(layout);
  plan_memory();
  const NoGrad no_grad;
  for (int u = 0; u < unit_count(); ++u) {
    move_in(u);
    move_in_frozen(u);
    make_parts(u);
    if (options_.stage > 1) observe(u);
    at(u).next_forward = u > 0 && u + 1 < unit_count() ? u + 1 : Slots::kNone;
    at(u).next_backward = u > 1 ? u - 1 : Slots::kNone;
  }
  if (unit_count() > 1) first_forward_ = 1, first_backward_ = unit_count() - 1;
}

// Everything in one allocation, in the order in which it is taken.
void Zero::Impl::plan_memory() {
  const int stage = options_.stage;
  struct Sizes {
    Bytes gathered, gradients;
  } own, largest;
  for (int u = 0; u < unit_count(); ++u) {
    const auto& unit = at(u);
    const Bytes share = unit.layout.share_bytes(), whole = whole_bytes(unit);
    const Bytes average = wide_averages() ? share * 2 : share;
    arena_.reserve(stage == 3 ? share : whole);
    if (stage == 1) arena_.reserve(whole);
    if (averages_apart()) arena_.reserve(average);
    arena_.reserve(unit.layout.frozen.share_bytes());
    auto& sizes = u == 0 ? own : largest;
    sizes.gathered = std::max(sizes.gathered, gathered_bytes(unit));
    sizes.gradients = std::max(sizes.gradients, whole);
  }
  const int units = unit_count() - 1;
  const int live = stage == 3 ? std::min(options_.live_units, units) : 0;
  const int gradient_slots = stage == 1 ? 0 : std::min(kGradientUnits, units);
  if (stage == 3) arena_.reserve(own.gathered);
  if (stage > 1) arena_.reserve(own.gradients);
  for (int i = 0; i < live; ++i) arena_.reserve(largest.gathered);
  for (int i = 0; i < gradient_slots; ++i) arena_.reserve(largest.gradients);
  arena_.allocate(communicator_);
  take_memory();
  const auto bytes = [&](Bytes size) { return arena_.take(Elems(size.value), DType::u8); };
  if (stage == 3) unit_slots_.add(bytes(own.gathered));
  if (stage > 1) gradient_slots_.add(bytes(own.gradients));
  for (int i = 0; i < live; ++i) unit_slots_.add(bytes(largest.gathered));
  for (int i = 0; i < gradient_slots; ++i) gradient_slots_.add(bytes(largest.gradients));
}

void Zero::Impl::take_memory() {
  const int stage = options_.stage;
  for (auto& unit : units_) {
    const auto share = unit.layout.share, whole = share * communicator_.size();
    const auto dtype = unit.layout.dtype;
    const auto cut = [&](const Tensor& flat) {
      return Tensor::wrap(flat.storage(), {share.value}, dtype, share.value * communicator_.rank());
    };
    if (stage == 3) unit.share = arena_.take(share, dtype);
    if (stage < 3) unit.whole = arena_.take(whole, dtype), unit.share = cut(unit.whole);
    if (stage == 1) unit.gradients = arena_.take(whole, dtype);
    unit.gradient_share = averages_apart()
                              ? arena_.take(share, wide_averages() ? DType::f32 : dtype)
                              : cut(unit.gradients);
    unit.frozen.share = arena_.take(unit.layout.frozen.share, unit.layout.frozen.dtype);
    if (lowered()) unit.master = Tensor::zeros({share.value});
  }
}

// Values go where they will live from now on, one parameter at a time; what they lay in before is
// freed.
void Zero::Impl::move_in(int index) {
  auto& unit = at(index);
  const auto& parameters = unit.layout.parameters;
  if (parameters.empty()) return;
  const auto dtype = unit.layout.dtype;
  const bool whole = options_.stage < 3;
  unit.storage =
      whole ? unit.whole.storage()
            : tensor::Storage::borrow(arena_.memory().get(), whole_bytes(unit), arena_.memory());
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const auto& parameter = parameters[i].tensor;
    const auto begin = unit.layout.begins[i].value;
    const auto& range =
        unit.ranges.emplace_back(part_in_share(unit.layout, i, communicator_.rank()));
    const auto values = tensor::filled(parameter, lowered() ? DType::f32 : dtype);
    broadcast_values(values, 0, communicator_);
    if (whole) Tensor::wrap(unit.storage, parameter.shape(), dtype, begin).copy_(values);
    if (!whole) copy_range(unit.share, values, range);
    if (lowered()) copy_range(unit.master, values, range);
    tensor::rebind(parameter, unit.storage, begin);
    tensor::forget_fills(parameter);
    if (!whole || options_.stage > 1) continue;
    Tensor(parameter).set_grad_buffer(
        Tensor::wrap(unit.gradients.storage(), parameter.shape(), dtype, begin));
  }
  if (!whole) unit.storage->move_to(nullptr);
}

void Zero::Impl::move_in_frozen(int index) {
  const auto& run = at(index).layout.frozen;
  auto& frozen = at(index).frozen;
  if (run.empty()) return;
  frozen.storage = tensor::Storage::borrow(
      arena_.memory().get(), run.share_bytes() * communicator_.size(), arena_.memory());
  for (std::size_t i = 0; i < run.parameters.size(); ++i) {
    const auto& parameter = run.parameters[i].tensor;
    frozen.ranges.push_back(part_in_share(run, i, communicator_.rank()));
    const auto values = tensor::filled(parameter, run.dtype);
    broadcast_values(values, 0, communicator_);
    copy_range(frozen.share, values, frozen.ranges.back());
    tensor::rebind(parameter, frozen.storage, run.begins[i].value);
    tensor::forget_fills(parameter);
  }
  frozen.storage->move_to(nullptr);
}

void Zero::Impl::give_part(const Tensor& parameter, Tensor values, const PartRange& range) {
  auto part = std::make_shared<tensor::Part>();
  part->values = std::move(values);
  part->begin = range.begin.value;
  part->owner = weak_from_this();
  tensor::set_part(parameter, std::move(part));
}

void Zero::Impl::make_parts(int index) {
  auto& unit = at(index);
  const auto cut = [](const Tensor& flat, const PartRange& range) {
    return Tensor::wrap(flat.storage(), {range.count.value}, flat.dtype(),
                        flat.offset() + range.at.value);
  };
  const auto& parameters = unit.layout.parameters;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    unit.parts.push_back(cut(lowered() ? unit.master : unit.share, unit.ranges[i]));
    give_part(parameters[i].tensor, unit.parts.back(), unit.ranges[i]);
    unit.hooks.push_back(
        parameters[i].tensor.on_grad_ready([weak = weak_from_this(), index, i](const Tensor&) {
          if (const auto zero = weak.lock()) zero->on_ready(index, i);
        }));
  }
  for (std::size_t i = 0; i < unit.layout.frozen.parameters.size(); ++i) {
    unit.frozen.parts.push_back(cut(unit.frozen.share, unit.frozen.ranges[i]));
    give_part(unit.layout.frozen.parameters[i].tensor, unit.frozen.parts.back(),
              unit.frozen.ranges[i]);
  }
}

void Zero::Impl::observe(int index) {
  at(index).layout.module->set_forward_observer(std::make_shared<Hook>(weak_from_this(), index));
}

}  // namespace weft::parallel
