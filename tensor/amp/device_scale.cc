#include "tensor/amp/device_scale.h"

#include <cstddef>
#include <cstring>

#include "kernels/base/error.h"
#include "kernels/cuda/loss_scale.h"
#include "kernels/cuda/runtime.h"
#include "tensor/by_device.h"

namespace weft::tensor::amp {
namespace {

using kernels::LossScale;

constexpr Bytes kSize(sizeof(LossScale));

LossScale* loss_scale(const std::shared_ptr<Storage>& memory) {
  return reinterpret_cast<LossScale*>(memory->data());
}

LossScale read_from(const std::shared_ptr<Storage>& memory) {
  const auto words = Tensor::wrap(memory, {kSize.value / 4}, DType::i32).to_vector<std::int32_t>();
  LossScale state;
  std::memcpy(static_cast<void*>(&state), words.data(), sizeof state);
  return state;
}

}  // namespace

DeviceScale::DeviceScale(Device device, const LossScale& state, kernels::LossScaleParams params)
    : device_(device), params_(params) {
  if (is_capturing()) {
    fail<InvalidArgument>(
        "GradScaler: the first scaled step on {} is being captured into a graph, whose every "
        "launch would start with the first scale; make one step before (GraphedStep's warm-up "
        "does)",
        to_string(device));
  }
  memory_ = Storage::allocate(kSize, device);
  for (auto& look : looks_) look.copy = Storage::allocate_pinned(kSize);
  set(state);
}

bool DeviceScale::is_capturing() const { return Stream::current(device_).is_capturing(); }

LossScale* DeviceScale::state() const { return loss_scale(memory_); }

Tensor DeviceScale::scale() const {
  static_assert(offsetof(LossScale, scale) == 0);
  return Tensor::wrap(memory_, {}, DType::f32).clone();
}

void DeviceScale::set(const LossScale& value) {
  const DeviceGuard guard(device_);
  kernels::cuda::set_loss_scale(state(), value, Stream::current(device_).handle());
  looks_[0].done = looks_[1].done = Event();
  lost_ = 0;
}

LossScale DeviceScale::read() const { return read_from(memory_); }

LossScale* DeviceScale::Carried::state() const { return loss_scale(memory_); }

Tensor DeviceScale::Carried::found_inf() const {
  return Tensor::wrap(memory_, {}, DType::i32, offsetof(LossScale, found_inf) / 4);
}

LossScale DeviceScale::Carried::read() const { return read_from(memory_); }

DeviceScale::Carried DeviceScale::carry() const {
  Carried carried;
  carried.memory_ = Storage::allocate(kSize, device_);
  const DeviceGuard guard(device_);
  kernels::cuda::carry_loss_scale(carried.state(), true, state(), nullptr,
                                  Stream::current(device_).handle());
  return carried;
}

Tensor DeviceScale::carry_again(const Carried& carried, bool unscaled) const {
  const auto factor = Tensor::empty({}, {DType::f64, device_});
  const DeviceGuard guard(device_);
  kernels::cuda::carry_loss_scale(carried.state(), unscaled, state(), factor.data<double>(),
                                  Stream::current(device_).handle());
  return factor;
}

void DeviceScale::merge(const Carried& carried) const {
  const DeviceGuard guard(device_);
  kernels::cuda::merge_found_inf(state(), carried.state(), Stream::current(device_).handle());
}

std::int32_t DeviceScale::update() {
  const auto stream = Stream::current(device_);
  const DeviceGuard guard(device_);
  kernels::cuda::update_loss_scale(state(), params_, stream.handle());
  if (is_capturing()) return lost_;
  auto& look = looks_[next_look_];
  next_look_ = (next_look_ + 1) % looks_.size();
  if (look.done.is_recorded()) {
    look.done.synchronize();
    lost_ = loss_scale(look.copy)->lost;
  }
  kernels::cuda::copy_async(look.copy->data(), state(), kSize, stream.handle());
  look.copy->record_stream(stream);
  look.done.record(stream);
  return lost_;
}

}  // namespace weft::tensor::amp
