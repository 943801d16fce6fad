#include "kernels/cuda/loss_scale.h"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/list_checks.h"

namespace weft::kernels::cuda {
namespace {

__global__ void set_loss_scale_kernel(LossScale* state, LossScale value) { *state = value; }

__global__ void update_loss_scale_kernel(LossScale* state, LossScaleParams params) {
  kernels::update_loss_scale(*state, params);
}

__global__ void carry_loss_scale_kernel(LossScale* carried, bool unscaled, const LossScale* present,
                                        double* factor) {
  const double by = kernels::carry_loss_scale(*carried, unscaled, *present);
  if (factor != nullptr) *factor = by;
}

__global__ void merge_found_inf_kernel(LossScale* state, const LossScale* other) {
  if (other->found_inf != 0) state->found_inf = 1;
}

void check_state(const char* operation, const LossScale* state) {
  check_present(operation, 0, "the loss scale", state, DType::f32);
}

}  // namespace

void set_loss_scale(LossScale* state, const LossScale& value, Stream stream) {
  check_state("set_loss_scale", state);
  launch(set_loss_scale_kernel, Shape{1, 1}, stream, state, value);
}

void update_loss_scale(LossScale* state, const LossScaleParams& params, Stream stream) {
  check_state("update_loss_scale", state);
  launch(update_loss_scale_kernel, Shape{1, 1}, stream, state, params);
}

void carry_loss_scale(LossScale* carried, bool unscaled, const LossScale* present, double* factor,
                      Stream stream) {
  check_state("carry_loss_scale", carried);
  check_state("carry_loss_scale", present);
  check_aligned("carry_loss_scale", 0, "the factor", factor, DType::f64);
  launch(carry_loss_scale_kernel, Shape{1, 1}, stream, carried, unscaled, present, factor);
}

void merge_found_inf(LossScale* state, const LossScale* other, Stream stream) {
  check_state("merge_found_inf", state);
  check_state("merge_found_inf", other);
  launch(merge_found_inf_kernel, Shape{1, 1}, stream, state, other);
}

}  // namespace weft::kernels::cuda
