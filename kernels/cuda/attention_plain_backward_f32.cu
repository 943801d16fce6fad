// kernels/cuda/attention_plain_backward.cuh for f32.
#include "kernels/cuda/attention_plain_backward.cuh"

namespace weft::kernels::cuda {

template void attention_plain_backward<float>(const AttentionArgs&, Stream);

}  // namespace weft::kernels::cuda
