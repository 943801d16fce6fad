// Element types, and the one place where a run-time type becomes a compile-time one.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

#include "kernels/base/half.h"
#include "kernels/base/units.h"

namespace weft {

enum class DType : std::uint8_t { f64, f32, f16, bf16, i64, i32, u8 };
inline constexpr int kDTypeCount = 7;

constexpr Bytes size_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
    case DType::i64:
      return Bytes(8);
    case DType::f32:
    case DType::i32:
      return Bytes(4);
    case DType::f16:
    case DType::bf16:
      return Bytes(2);
    case DType::u8:
      return Bytes(1);
  }
  return Bytes(0);
}

constexpr Bytes bytes_of(Elems count, DType dtype) {
  return Bytes(count.value * size_of(dtype).value);
}

constexpr bool is_floating(DType dtype) { return dtype <= DType::bf16; }
constexpr bool is_half(DType dtype) { return dtype == DType::f16 || dtype == DType::bf16; }

// "f32" and so on, as used in messages and files.
std::string_view name_of(DType dtype);
// Accepts our names and the usual aliases (float, float32, half, float16, bfloat16, double, int64,
// int32, uint8).
std::optional<DType> parse_dtype(std::string_view name);

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<Half> {
  static constexpr DType value = DType::f16;
};
template <>
struct DTypeOf<BFloat16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct DTypeOf<std::int64_t> {
  static constexpr DType value = DType::i64;
};
template <>
struct DTypeOf<std::int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct DTypeOf<std::uint8_t> {
  static constexpr DType value = DType::u8;
};
template <class T>
inline constexpr DType dtype_of = DTypeOf<T>::value;

// Calls visitor.template operator()<T>() with the element type: the only switch over dtypes that
// callers need.
template <class Visitor>
constexpr decltype(auto) dispatch(DType dtype, Visitor&& visitor) {
  switch (dtype) {
    case DType::f64:
      return visitor.template operator()<double>();
    case DType::f32:
      return visitor.template operator()<float>();
    case DType::f16:
      return visitor.template operator()<Half>();
    case DType::bf16:
      return visitor.template operator()<BFloat16>();
    case DType::i64:
      return visitor.template operator()<std::int64_t>();
    case DType::i32:
      return visitor.template operator()<std::int32_t>();
    case DType::u8:
      break;
  }
  return visitor.template operator()<std::uint8_t>();
}

}  // namespace weft
