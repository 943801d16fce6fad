// Attention in plain arithmetic for f16 and bf16, wide heads; a file a type, because they take long
// to compile.
#include "kernels/cuda/attention_plain_backward.cuh"
#include "kernels/cuda/attention_plain_forward.cuh"

namespace weft::kernels::cuda {

template void attention_plain_forward<Half>(const AttentionArgs&, Stream);
template void attention_plain_backward<Half>(const AttentionArgs&, Stream);
template void attention_plain_forward<BFloat16>(const AttentionArgs&, Stream);
template void attention_plain_backward<BFloat16>(const AttentionArgs&, Stream);

}  // namespace weft::kernels::cuda
