// Gradients: filled in whole, averaged into shares while backward runs on, freed.
#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/base/check.h"
#include "kernels/optimizer.h"
#include "tensor/ops/basic.h"
#include "tensor/optim/clip.h"
#include "tensor/parallel/zero_impl.h"

namespace weft::parallel {
namespace {

// By rank, element by element: whatever lies where, sums have the same bits.
constexpr std::string_view kInRankOrder = "direct";

}  // namespace

bool Zero::Impl::averaged(const Unit& unit) const {
  return std::any_of(unit.parts.begin(), unit.parts.end(),
                     [](const Tensor& part) { return part.grad().defined(); });
}

// Stage 1 keeps averages where the next gradients are going to lie. Those that are to be added to
// step aside.
void Zero::Impl::carry_averages() {
  if (alone() || averages_apart()) return;
  const NoGrad no_grad;
  for (auto& unit : units_) {
    if (!averaged(unit)) continue;
    unit.carried = unit.gradient_share.clone();
    for (std::size_t i = 0; i < unit.parts.size(); ++i) {
      if (!unit.parts[i].grad().defined()) continue;
      const auto& range = unit.ranges[i];
      tensor::set_part_grad(unit.parts[i],
                            unit.carried.narrow(0, range.at.value, range.count.value));
    }
  }
}

void Zero::Impl::begin_gradients() {
  for (auto& unit : units_) {
    unit.pending = unit.layout.parameters.size();
    unit.ready.assign(unit.pending, 0);
    unit.launched = false;
  }
  carry_averages();
  note_accumulated();
  next_launch_ = unit_count() - 1;
}

// What earlier backwards under NoSync left whole.
void Zero::Impl::note_accumulated() {
  if (options_.stage == 1) return;
  Bytes held;
  for (const auto& unit : units_) {
    for (const auto& [name, parameter] : unit.layout.parameters) {
      if (const auto gradient = parameter.grad(); gradient.defined() && !unit.gradients.defined()) {
        held += bytes_of(Elems(gradient.numel()), gradient.dtype());
      }
    }
  }
  accumulated_peak_ = std::max(accumulated_peak_, held);
}

void Zero::Impl::on_ready(int index, std::size_t parameter) {
  if (!synchronises_) return;
  auto& unit = at(index);
  if (!in_backward_) {
    fail<InvalidArgument>(
        "rank {}: the gradient of '{}' became ready outside Zero::backward(), so it would not be "
        "averaged over the {} ranks. Call backward() of the Zero (or of Fabric) instead of the "
        "loss's own, or hold a NoSync.",
        communicator_.rank(), unit.layout.parameters[parameter].name, communicator_.size());
  }
  bind_gradients(index);  // of a parameter used outside of its module's forward()
  unit.ready[parameter] = 1;
  if (--unit.pending > 0) return;
  if (options_.find_unused_parameters) return launch_full_units();
  launch(index);
}

// Which units are full first differs between ranks where parameters may be unused: from the last to
// the first, then.
void Zero::Impl::launch_full_units() {
  for (; next_launch_ >= 0; --next_launch_) {
    const auto& unit = at(next_launch_);
    if (unit.parts.empty()) continue;
    if (unit.pending > 0) return;
    launch(next_launch_);
  }
}

// From now on the unit's gradients go where they can be reduced; those that are there move along.
void Zero::Impl::bind_gradients(int index) {
  auto& unit = at(index);
  if (options_.stage == 1 || unit.launched || unit.gradients.defined() || unit.parts.empty()) {
    return;
  }
  const auto count = unit.layout.share * communicator_.size();
  int slot = gradient_slots_.acquire(index);
  while (slot == Slots::kNone && !in_flight_.empty()) {
    complete_oldest();
    slot = gradient_slots_.acquire(index);
  }
  unit.gradient_slot = slot;
  // Without a slot (units that fill at the same time) in memory of its own, which is staged.
  unit.gradients = slot == Slots::kNone ? Tensor::zeros({count.value}, {unit.layout.dtype, {}})
                                        : gradient_slots_.buffer(slot, count, unit.layout.dtype);
  note_peak();
  for (std::size_t i = 0; i < unit.parts.size(); ++i) {
    auto& parameter = unit.layout.parameters[i].tensor;
    parameter.set_grad_buffer(Tensor::wrap(unit.gradients.storage(), parameter.shape(),
                                           unit.layout.dtype, unit.layout.begins[i].value));
  }
}

void Zero::Impl::launch(int index) {
  auto& unit = at(index);
  const auto share = unit.layout.share.value;
  unit.launched = true;
  unit.adds = averages_apart() && averaged(unit);
  const Tensor own = unit.gradients.narrow(0, share * communicator_.rank(), share);
  const bool is_direct = options_.stage > 1 && !wide_averages() && !unit.adds;
  const Tensor& to = is_direct ? unit.gradient_share : own;
  unit.scatter = communicator_.reduce_scatter_async(view_of(unit.gradients), view_of(to),
                                                    ReduceOp::avg, {.algorithm = kInRankOrder});
  unit.scatter.then([keep = arena_.memory(), also = unit.gradients](std::exception_ptr) {});
  in_flight_.push_back(index);
}

void Zero::Impl::complete_oldest() {
  const int index = in_flight_.front();
  in_flight_.pop_front();
  complete(index);
}

// The averages become the parts' gradients, the whole ones go.
void Zero::Impl::complete(int index) {
  auto& unit = at(index);
  const NoGrad no_grad;
  const Work work = std::exchange(unit.scatter, Work());
  work.wait();
  times_.communication += work.duration();
  const auto share = unit.layout.share.value;
  const Tensor own = unit.gradients.narrow(0, share * communicator_.rank(), share);
  Tensor term = std::exchange(unit.carried, Tensor());
  if (unit.adds) {
    term = own;
  } else if (wide_averages()) {
    unit.gradient_share.copy_(own);
  }
  if (term.defined()) unit.gradient_share.copy_(ops::add(unit.gradient_share, term));
  for (std::size_t i = 0; i < unit.parts.size(); ++i) {
    const auto& range = unit.ranges[i];
    tensor::set_part_grad(unit.parts[i],
                          unit.gradient_share.narrow(0, range.at.value, range.count.value));
    auto& parameter = unit.layout.parameters[i].tensor;
    parameter.set_grad({});
    if (options_.stage > 1) parameter.set_grad_buffer({});
  }
  if (options_.stage == 1) return;
  unit.gradients = Tensor();
  if (unit.gradient_slot != Slots::kNone) gradient_slots_.free(unit.gradient_slot);
  unit.gradient_slot = Slots::kNone;
}

void Zero::Impl::finish_gradients() {
  std::size_t absent = 0, all = 0;
  for (const auto& unit : units_) absent += unit.pending, all += unit.parts.size();
  const bool find_unused = options_.find_unused_parameters;
  if (!find_unused && absent == all) return;  // a loss that does not reach this model
  if (!find_unused && absent > 0) refuse_absent();
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::uint8_t> used;
  if (find_unused) used = complete_absent();
  while (!in_flight_.empty()) complete_oldest();
  times_.exposed = std::chrono::steady_clock::now() - start;
  if (find_unused) keep_used(used);
}

// A parameter that took no part contributes zero here (or what NoSync accumulated before); others
// may have used it. By parameter: whether this rank did, or has an average of it from before.
std::vector<std::uint8_t> Zero::Impl::complete_absent() {
  const NoGrad no_grad;
  std::vector<std::uint8_t> used;
  for (int u = 0; u < unit_count(); ++u) {
    auto& unit = at(u);
    if (unit.pending > 0) bind_gradients(u);
    for (std::size_t i = 0; i < unit.parts.size(); ++i) {
      const auto& parameter = unit.layout.parameters[i].tensor;
      const bool has = parameter.grad().defined();
      used.push_back(unit.ready[i] || has || unit.parts[i].grad().defined());
      if (unit.ready[i] || has) continue;
      Tensor::wrap(unit.gradients.storage(), parameter.shape(), unit.layout.dtype,
                   unit.layout.begins[i].value)
          .zero_();
    }
    unit.pending = 0;
  }
  launch_full_units();
  return used;
}

// A parameter that somebody used has an average as its gradient everywhere; one that nobody used
// stays without.
void Zero::Impl::keep_used(std::vector<std::uint8_t>& used) {
  communicator_.all_reduce(std::span(used), ReduceOp::max);
  const NoGrad no_grad;
  std::size_t index = 0;
  for (auto& unit : units_) {
    for (std::size_t i = 0; i < unit.parts.size(); ++i) {
      if (used[index++]) continue;
      unit.parts[i].grad().zero_();  // the next backward may add to it
      tensor::set_part_grad(unit.parts[i], {});
    }
  }
}

void Zero::Impl::refuse_absent() const {
  constexpr std::size_t kNamesShown = 8;
  std::string list;
  std::size_t absent = 0, all = 0;
  for (const auto& unit : units_) {
    for (std::size_t i = 0; i < unit.parts.size(); ++i) {
      ++all;
      if (unit.ready[i]) continue;
      if (absent < kNamesShown) list += (absent ? ", " : "") + unit.layout.parameters[i].name;
      ++absent;
    }
  }
  if (absent > kNamesShown) list += fmt::format(" and {} more", absent - kNamesShown);
  fail<InvalidArgument>(
      "rank {}: {} of {} parameters took no part in backward: {}. The other ranks wait for their "
      "gradients. Use every parameter in forward, or freeze it (set_requires_grad(false)) before "
      "setup.",
      communicator_.rank(), absent, all, list);
}

// A backward that failed: what was reduced stays unknown, what was not is dropped.
void Zero::Impl::drop_gradients() noexcept {
  for (auto& unit : units_) {
    broken_ = broken_ || unit.launched;
    try {
      std::exchange(unit.scatter, Work()).wait();
    } catch (...) {  // the next call on the communicator says it
      broken_ = true;
    }
    if (options_.stage == 1 || !unit.gradients.defined()) continue;
    for (auto& [name, parameter] : unit.layout.parameters) {
      parameter.set_grad({});
      parameter.set_grad_buffer({});
    }
    unit.gradients = Tensor();
    if (unit.gradient_slot != Slots::kNone) gradient_slots_.free(unit.gradient_slot);
    unit.gradient_slot = Slots::kNone;
  }
  in_flight_.clear();
}

std::vector<Tensor> Zero::Impl::parts() const {
  std::vector<Tensor> all;
  if (alone()) {
    for (const auto& [name, tensor] : parameters_) all.push_back(tensor);
  }
  for (const auto& unit : units_) all.insert(all.end(), unit.parts.begin(), unit.parts.end());
  return all;
}

std::vector<kernels::FlatTensor> Zero::Impl::flat_gradients() const {
  std::vector<kernels::FlatTensor> flat;
  for (const auto& part : parts()) {
    const auto gradient = part.grad();
    if (!gradient.defined() || gradient.numel() == 0) continue;
    flat.push_back({gradient.data(), Elems(gradient.numel()), gradient.dtype()});
  }
  return flat;
}

double Zero::grad_norm() const {
  double squares = kernels::squared_norm(impl_->flat_gradients());
  impl_->communicator_.all_reduce(std::span(&squares, 1), ReduceOp::sum,
                                  {.algorithm = kInRankOrder});
  return std::sqrt(squares);
}

double Zero::clip_grad_norm(double max_norm, bool error_if_nonfinite) {
  constexpr double kEpsilon = 1e-6;  // PyTorch's
  if (!(max_norm >= 0.0)) {
    fail<InvalidArgument>("clip_grad_norm: max_norm must be at least 0, not {}", max_norm);
  }
  const double norm = grad_norm();
  if (error_if_nonfinite && !std::isfinite(norm)) {
    fail<InvalidArgument>(
        "clip_grad_norm: the norm of the gradients is {}. Lower the learning rate, look for bad "
        "samples, or pass error_if_nonfinite = false",
        norm);
  }
  const double factor = max_norm / (norm + kEpsilon);
  if (!(factor >= 1.0)) kernels::scale(impl_->flat_gradients(), factor);
  return norm;
}

void Zero::clip_grad_value(double clip_value) {
  optim::clip_grad_value_(impl_->parts(), clip_value);
}

}  // namespace weft::parallel
