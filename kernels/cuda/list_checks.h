// Mistakes that only CUDA minds, refused before a launch: what the memory system does not load.
#pragma once

#include <cstddef>

#include "kernels/base/dtype.h"

namespace weft::kernels::cuda {

// InvalidArgument unless `data` (or nullptr) is aligned to its elements.
void check_aligned(const char* operation, std::size_t index, const char* what, const void* data,
                   DType dtype);
// The same, and not nullptr.
void check_present(const char* operation, std::size_t index, const char* what, const void* data,
                   DType dtype);

}  // namespace weft::kernels::cuda
