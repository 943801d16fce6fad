// The loss scale in a CUDA device's memory: found, adapted and read there, so that a step in
// 16-mixed waits for nothing and can be captured into a graph. For GradScaler (grad_scaler.h).
//
// Work is queued on the device's current stream. Threading: one thread. Errors: those of
// tensor/stream.h.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "kernels/loss_scale.h"
#include "tensor/storage.h"
#include "tensor/stream.h"
#include "tensor/tensor.h"

namespace weft::tensor::amp {

class DeviceScale {
 public:
  // InvalidArgument while the current stream is captured: every replay would start anew.
  DeviceScale(Device device, const kernels::LossScale& state, kernels::LossScaleParams params);

  Device device() const { return device_; }
  bool is_capturing() const;
  // An f32 scalar of its own: the scale as of what is queued.
  Tensor scale() const;
  void set(const kernels::LossScale& state);
  kernels::LossScale read() const;  // waits

  // The scale that an optimizer's gradients carry, and whether any of them was not finite.
  class Carried {
   public:
    kernels::LossScale* state() const;
    Tensor found_inf() const;         // i32 scalar, the one that unscaling writes
    kernels::LossScale read() const;  // waits

   private:
    friend class DeviceScale;
    std::shared_ptr<Storage> memory_;
  };
  Carried carry() const;  // the present one
  // The f64 scalar by which gradients are to be multiplied to carry the present one.
  Tensor carry_again(const Carried& carried, bool unscaled) const;
  void merge(const Carried& carried) const;  // what was found there was found

  // kernels::update_loss_scale. Gives how many steps were lost under the smallest scale, as of the
  // update before the previous one: the host does not wait for what it has just queued, and all
  // ranks learn of it in the same update. Nothing new while captured.
  std::int32_t update();

 private:
  struct Look {  // at the state, copied to the host behind an update
    std::shared_ptr<Storage> copy;
    Event done;
  };
  kernels::LossScale* state() const;

  Device device_;
  kernels::LossScaleParams params_;
  std::shared_ptr<Storage> memory_;
  std::array<Look, 2> looks_;
  std::size_t next_look_ = 0;
  std::int32_t lost_ = 0;
};

}  // namespace weft::tensor::amp
