// Attention in plain arithmetic for f32; a file a type, because they take long to compile.
#include "kernels/cuda/attention_plain_backward.cuh"
#include "kernels/cuda/attention_plain_forward.cuh"

namespace weft::kernels::cuda {

template void attention_plain_forward<float>(const AttentionArgs&, Stream);
template void attention_plain_backward<float>(const AttentionArgs&, Stream);

}  // namespace weft::kernels::cuda
