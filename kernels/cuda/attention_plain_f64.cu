// Attention in plain arithmetic for f64; a file a type, because they take long to compile.
#include "kernels/cuda/attention_plain_backward.cuh"
#include "kernels/cuda/attention_plain_forward.cuh"

namespace weft::kernels::cuda {

template void attention_plain_forward<double>(const AttentionArgs&, Stream);
template void attention_plain_backward<double>(const AttentionArgs&, Stream);

}  // namespace weft::kernels::cuda
