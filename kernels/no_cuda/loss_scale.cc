#include "kernels/cuda/loss_scale.h"

#include "kernels/no_cuda/refuse.h"

namespace weft::kernels::cuda {

void set_loss_scale(LossScale*, const LossScale&, Stream) {
  refuse_without_backend("CUDA set_loss_scale");
}

void update_loss_scale(LossScale*, const LossScaleParams&, Stream) {
  refuse_without_backend("CUDA update_loss_scale");
}

void carry_loss_scale(LossScale*, bool, const LossScale*, double*, Stream) {
  refuse_without_backend("CUDA carry_loss_scale");
}

void merge_found_inf(LossScale*, const LossScale*, Stream) {
  refuse_without_backend("CUDA merge_found_inf");
}

}  // namespace weft::kernels::cuda
