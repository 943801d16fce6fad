// The arithmetic of backward that queries' and keys' kernels share.
//
//   P = exp(scale Q K' - log_sum_exp), D = rows of dO * O summed, dP = dO V'
//   dS = P * (dP * mask - D), dQ = scale dS K, dK = scale dS' Q, dV = (P * mask)' dO
#pragma once

#include "kernels/cuda/attention_tile.cuh"

namespace weft::kernels::cuda {

// One score and one dP; the score becomes P * mask, dP becomes dS. `shift` is log_sum_exp *
// log2(e).
WEFT_DEVICE void score_gradient(float& score, float& gradient, bool visible, float mask,
                                float scale_log2, float shift, float dot) {
  const float p = visible ? exp2_approx(score * scale_log2 - shift) : 0.0f;
  gradient = p * (gradient * mask - dot);
  score = p * mask;
}

}  // namespace weft::kernels::cuda
