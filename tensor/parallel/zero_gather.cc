// Stage 3: a unit's parameters come before they are used and go afterwards. Stages 1 and 2: they
// come together again after a step.
#include <algorithm>
#include <utility>

#include "kernels/base/check.h"
#include "tensor/parallel/zero_impl.h"

namespace weft::parallel {
namespace {

// Masters of values that were written anew become these; the others keep what rounding took.
void take_over(const Tensor& values, const Tensor& before, const Tensor& master) {
  const auto now = values.to_vector<float>(), then = before.to_vector<float>();
  auto* const exact = master.data<float>();
  for (std::size_t i = 0; i < now.size(); ++i) {
    if (now[i] != then[i]) exact[i] = now[i];
  }
}

}  // namespace

bool Zero::Impl::in_use(int unit) const {
  return at(unit).depth > 0 || (in_backward_ && (unit == 0 || unit == backward_unit_));
}

void Zero::Impl::note_peak() {
  Bytes gathered, in_flight;
  for (const auto& unit : units_) {
    if (is_gathered(unit)) gathered += gathered_bytes(unit);
    if (options_.stage > 1 && unit.gradients.defined()) in_flight += whole_bytes(unit);
  }
  gathered_peak_ = std::max(gathered_peak_, gathered);
  in_flight_peak_ = std::max(in_flight_peak_, in_flight);
}

// Fetched ahead a unit takes what is free; one that is needed now takes the place of one that was
// fetched ahead in vain.
int Zero::Impl::free_slot(int unit, bool ahead) {
  int slot = unit_slots_.acquire(unit);
  if (slot != Slots::kNone || ahead) return slot;
  for (int s = 1; s < unit_slots_.count() && slot == Slots::kNone; ++s) {
    const int owner = unit_slots_.owner(s);
    if (owner == Slots::kNone || in_use(owner)) continue;
    release(owner);
    slot = unit_slots_.acquire(unit);
  }
  if (slot != Slots::kNone) return slot;
  fail<InvalidArgument>(
      "rank {}: unit '{}' is needed while all {} live units are in use. Allow more of them "
      "(ZeroOptions::live_units), or make modules that run inside of each other one unit.",
      communicator_.rank(), at(unit).layout.name, options_.live_units);
}

// The parameters of both runs lie one after the other from here on; nullptr: nowhere.
void Zero::Impl::place(Unit& unit, std::byte* gathered) noexcept {
  if (unit.storage) unit.storage->move_to(gathered);
  if (!unit.frozen.storage) return;
  unit.frozen.storage->move_to(gathered == nullptr ? nullptr : gathered + whole_bytes(unit).value);
}

void Zero::Impl::start_gather(int index, bool ahead) {
  auto& unit = at(index);
  if (unit.slot != Slots::kNone || !unit.layout.has_parameters()) return;
  const int slot = free_slot(index, ahead);
  if (slot == Slots::kNone) return;
  unit.slot = slot;
  note_peak();
  const auto gather = [&](const Tensor& share, const FlatRun& run, Bytes at) {
    if (run.empty()) return Work();
    auto work = communicator_.all_gather_async(
        view_of(share),
        view_of(unit_slots_.buffer(slot, run.share * communicator_.size(), run.dtype, at)));
    // The memory outlives the operation even when this is torn down by an exception.
    work.then([keep = arena_.memory()](std::exception_ptr) {});
    return work;
  };
  unit.gather = gather(unit.share, unit.layout, Bytes(0));
  unit.frozen.gather = gather(unit.frozen.share, unit.layout.frozen, whole_bytes(unit));
}

void Zero::Impl::await_gather(int index) {
  auto& unit = at(index);
  if (unit.present || !unit.layout.has_parameters()) return;
  std::exchange(unit.gather, Work()).wait();
  std::exchange(unit.frozen.gather, Work()).wait();
  place(unit, unit_slots_.data(unit.slot));
  unit.present = true;
}

void Zero::Impl::release(int index) noexcept {
  auto& unit = at(index);
  if (unit.slot == Slots::kNone) return;
  for (auto* gather : {&unit.gather, &unit.frozen.gather}) {
    try {
      std::exchange(*gather, Work()).wait();  // fetched in vain: others may still write to it
    } catch (...) {                           // the next call on the communicator says it
      broken_ = true;
    }
  }
  place(unit, nullptr);
  unit.present = false;
  unit_slots_.free(unit.slot);
  unit.slot = Slots::kNone;
}

void Zero::Impl::release_all() noexcept {
  if (options_.stage < 3 || gathered_) return;
  if (last_backward_ != Slots::kNone) at(last_backward_).next_backward = Slots::kNone;
  last_backward_ = Slots::kNone;
  backward_unit_ = Slots::kNone;
  for (int u = 0; u < unit_count(); ++u) {
    if (at(u).depth == 0) release(u);
  }
}

void Zero::Impl::begin_forward(int index) {
  if (options_.stage < 3) return;
  auto& unit = at(index);
  const bool first = unit.depth == 0;
  if (first && !gathered_) {
    start_gather(index, false);
    await_gather(index);
  }
  ++unit.depth;
  if (!first || gathered_ || in_backward_) return;
  if (index == 0) {
    last_forward_ = Slots::kNone;
  } else {
    (last_forward_ == Slots::kNone ? first_forward_ : at(last_forward_).next_forward) = index;
    last_forward_ = index;
  }
  const int next = index == 0 ? first_forward_ : unit.next_forward;
  if (next != Slots::kNone && options_.live_units > 1) start_gather(next, true);
}

void Zero::Impl::end_forward(int index) noexcept {
  if (options_.stage < 3 || --at(index).depth > 0 || gathered_ || in_use(index)) return;
  release(index);
  if (index != 0 || in_backward_) return;
  if (last_forward_ != Slots::kNone) at(last_forward_).next_forward = Slots::kNone;
  for (int u = 1; u < unit_count(); ++u) {
    if (!in_use(u)) release(u);
  }
}

void Zero::Impl::gather_for_backward() {
  if (options_.stage < 3 || gathered_) return;
  backward_unit_ = last_backward_ = Slots::kNone;
  start_gather(0, false);
  if (first_backward_ != Slots::kNone && options_.live_units > 1) {
    start_gather(first_backward_, true);
  }
  await_gather(0);
}

void Zero::Impl::enter_backward(int index) {
  if (!in_backward_) {
    if (options_.stage < 3 || gathered_) return;  // on_ready() says it, unless that is meant
    fail<InvalidArgument>(
        "rank {}: backward() outside of Zero::backward(), and the parameters of {} are not here. "
        "Call backward() of the Zero (or of Fabric) instead of the loss's own.",
        communicator_.rank(), index == 0 ? "the module" : "unit '" + at(index).layout.name + "'");
  }
  if (options_.stage == 3 && !gathered_ && index != 0 && index != backward_unit_) {
    const int before = std::exchange(backward_unit_, index);
    if (before != Slots::kNone && at(before).depth == 0) release(before);
    start_gather(index, false);
    await_gather(index);
    (last_backward_ == Slots::kNone ? first_backward_ : at(last_backward_).next_backward) = index;
    last_backward_ = index;
    const int next = at(index).next_backward;
    if (next != Slots::kNone && options_.live_units > 1) start_gather(next, true);
  }
  if (synchronises_) bind_gradients(index);
}

void Zero::Impl::updated() {
  if (alone()) return;
  round_masters();
  if (options_.stage < 3) return all_gather_parameters();
  if (gathered_) {
    fail<InvalidArgument>(
        "rank {}: parameters were updated while all of them are gathered, and what is gathered is "
        "old now. Let the Zero::Gathered end before the step.",
        communicator_.rank());
  }
  release_all();
}

void Zero::Impl::end_backward() noexcept {
  if (!alone()) release_all();
  in_backward_ = false;
}

void Zero::Impl::all_gather_parameters() {
  std::vector<Work> works;
  for (auto& unit : units_) {
    if (unit.layout.parameters.empty()) continue;
    works.push_back(communicator_.all_gather_async(view_of(unit.share), view_of(unit.whole)));
    works.back().then([keep = arena_.memory()](std::exception_ptr) {});
  }
  for (const auto& work : works) work.wait();
  for (auto& unit : units_) unit.whole.storage()->mark_written();
}

void Zero::Impl::gather_whole() {
  if (alone() || options_.stage < 3) return;
  const bool busy =
      std::any_of(units_.begin(), units_.end(), [](const Unit& unit) { return unit.depth > 0; });
  if (busy || in_backward_ || gathered_) {
    fail<InvalidArgument>("rank {}: Zero::Gathered inside of {}; gather before or after it.",
                          communicator_.rank(),
                          gathered_ ? "another"
                          : busy    ? "a forward()"
                                    : "a backward()");
  }
  release_all();
  const auto gather = [&](const FlatRun& run, const Tensor& share,
                          const std::shared_ptr<tensor::Storage>& storage, Tensor& whole) {
    if (run.empty()) return;
    whole = Tensor::empty({run.share.value * communicator_.size()}, {run.dtype, {}});
    communicator_.all_gather(view_of(share), view_of(whole));
    storage->move_to(whole.data());
  };
  for (auto& unit : units_) {
    gather(unit.layout, unit.share, unit.storage, unit.gathered_whole);
    gather(unit.layout.frozen, unit.frozen.share, unit.frozen.storage, unit.frozen.gathered_whole);
  }
  gathered_ = true;
  note_peak();
}

void Zero::Impl::release_whole(bool write_back) {
  if (!gathered_) return;
  const NoGrad no_grad;
  gathered_ = false;
  const auto own = [&](const FlatRun& run, const Tensor& whole) {
    return whole.narrow(0, run.share.value * communicator_.rank(), run.share.value);
  };
  for (auto& unit : units_) {
    if (write_back && !unit.layout.empty()) {
      const auto values = own(unit.layout, unit.gathered_whole);
      if (lowered()) take_over(values, unit.share, unit.master);
      unit.share.copy_(values);
    }
    if (write_back && !unit.layout.frozen.empty()) {
      unit.frozen.share.copy_(own(unit.layout.frozen, unit.frozen.gathered_whole));
    }
    place(unit, nullptr);
    unit.gathered_whole = unit.frozen.gathered_whole = Tensor();
  }
}

void Zero::Impl::round_masters() {
  if (!lowered()) return;
  const NoGrad no_grad;
  for (auto& unit : units_) {
    if (!unit.layout.empty()) unit.share.copy_(unit.master);
  }
}

}  // namespace weft::parallel
