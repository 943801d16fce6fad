#include "kernels/cuda/list_checks.h"

#include <cstdint>

#include "kernels/base/error.h"

namespace weft::kernels::cuda {

void check_aligned(const char* operation, std::size_t index, const char* what, const void* data,
                   DType dtype) {
  const auto size = static_cast<std::uintptr_t>(size_of(dtype).value);
  if (reinterpret_cast<std::uintptr_t>(data) % size == 0) return;
  fail<InvalidArgument>(
      "CUDA {}: tensor {}: {} at {} is not aligned to its elements, {} of {} bytes, and a GPU "
      "loads "
      "no element across such a boundary. Copy it to memory that is.",
      operation, index, what, data, name_of(dtype), size);
}

void check_present(const char* operation, std::size_t index, const char* what, const void* data,
                   DType dtype) {
  if (data == nullptr) {
    fail<InvalidArgument>("CUDA {}: tensor {}: {} is null: expected memory of the current device.",
                          operation, index, what);
  }
  check_aligned(operation, index, what, data, dtype);
}

}  // namespace weft::kernels::cuda
