#include "kernels/base/dtype.h"

namespace weft {
namespace {

struct Alias {
  std::string_view name;
  DType dtype;
};

constexpr Alias kAliases[] = {
    {"f64", DType::f64},   {"float64", DType::f64},   {"double", DType::f64},
    {"f32", DType::f32},   {"float32", DType::f32},   {"float", DType::f32},
    {"f16", DType::f16},   {"float16", DType::f16},   {"half", DType::f16},
    {"bf16", DType::bf16}, {"bfloat16", DType::bf16}, {"i64", DType::i64},
    {"int64", DType::i64}, {"i32", DType::i32},       {"int32", DType::i32},
    {"int", DType::i32},   {"long", DType::i64},      {"u8", DType::u8},
    {"uint8", DType::u8},
};

}  // namespace

std::string_view name_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return "f64";
    case DType::f32:
      return "f32";
    case DType::f16:
      return "f16";
    case DType::bf16:
      return "bf16";
    case DType::i64:
      return "i64";
    case DType::i32:
      return "i32";
    case DType::u8:
      return "u8";
  }
  return "unknown";
}

std::optional<DType> parse_dtype(std::string_view name) {
  for (const Alias& alias : kAliases) {
    if (alias.name == name) return alias.dtype;
  }
  return std::nullopt;
}

}  // namespace weft
