// kernels/cuda/attention_plain_backward.cuh for f64.
#include "kernels/cuda/attention_plain_backward.cuh"

namespace weft::kernels::cuda {

template void attention_plain_backward<double>(const AttentionArgs&, Stream);

}  // namespace weft::kernels::cuda
