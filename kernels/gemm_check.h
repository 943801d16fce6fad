// What every backend's gemm refuses before it starts.
#pragma once

#include "kernels/gemm.h"

namespace weft::kernels {

// InvalidArgument for a type, size or stride that makes no sense, and for null matrices where they
// would be read. lacks_bias: the epilogue adds a bias, and it is null; refused unless C is empty.
void check_gemm(const Gemm& problem, bool lacks_bias = false);

}  // namespace weft::kernels
