// The run-time types that operators take, as compile-time ones; what they do not serve is refused
// in the words of the CPU's kernels.
#pragma once

#include <string>

#include "kernels/base/dtype.h"
#include "kernels/cuda/status.h"

namespace weft::kernels::cuda {

// visitor.operator()<T>() with one of the four floating types.
template <class Visitor>
void dispatch_floating(DType dtype, const char* operation, Visitor&& visitor) {
  switch (dtype) {
    case DType::f64:
      return visitor.template operator()<double>();
    case DType::f32:
      return visitor.template operator()<float>();
    case DType::f16:
      return visitor.template operator()<Half>();
    case DType::bf16:
      return visitor.template operator()<BFloat16>();
    default:
      refuse(std::string(operation) + ": dtype " + std::string(name_of(dtype)) +
             " is not a floating type; cast to f64, f32, f16 or bf16");
  }
}

// With i64 or i32.
template <class Visitor>
void dispatch_index(DType dtype, const char* operation, Visitor&& visitor) {
  switch (dtype) {
    case DType::i64:
      return visitor.template operator()<std::int64_t>();
    case DType::i32:
      return visitor.template operator()<std::int32_t>();
    default:
      refuse(std::string(operation) + ": indices are " + std::string(name_of(dtype)) +
             "; cast to i64 or i32");
  }
}

}  // namespace weft::kernels::cuda
