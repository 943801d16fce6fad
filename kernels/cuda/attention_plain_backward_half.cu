// kernels/cuda/attention_plain_backward.cuh for f16 and bf16, wide heads.
#include "kernels/cuda/attention_plain_backward.cuh"

namespace weft::kernels::cuda {

template void attention_plain_backward<Half>(const AttentionArgs&, Stream);
template void attention_plain_backward<BFloat16>(const AttentionArgs&, Stream);

}  // namespace weft::kernels::cuda
