#include "tensor/amp/precision.h"

#include <array>

#include "kernels/base/error.h"

namespace weft::tensor::amp {
namespace {

struct Row {
  std::string_view name, alias;
  Precision precision;
  Policy policy;
};

constexpr std::array<Row, 6> kRows = {{
    {"16-mixed", "16", Precision::mixed_16, {DType::f32, DType::f32, DType::f16, DType::f32, true}},
    {"bf16-mixed",
     "bf16",
     Precision::mixed_bf16,
     {DType::f32, DType::f32, DType::bf16, DType::f32, false}},
    {"32-true", "32", Precision::true_32, {DType::f32, DType::f32, {}, {}, false}},
    {"64-true", "64", Precision::true_64, {DType::f64, DType::f64, {}, {}, false}},
    {"16-true", "", Precision::true_16, {DType::f16, DType::f16, {}, {}, false}},
    {"bf16-true", "", Precision::true_bf16, {DType::bf16, DType::bf16, {}, {}, false}},
}};

const Row& row_of(Precision precision) {
  for (const Row& row : kRows) {
    if (row.precision == precision) return row;
  }
  fail<InvalidArgument>("there is no precision number {}", static_cast<int>(precision));
}

}  // namespace

std::string_view name_of(Precision precision) { return row_of(precision).name; }

std::optional<Precision> parse_precision(std::string_view name) {
  for (const Row& row : kRows) {
    if (!name.empty() && (name == row.name || name == row.alias)) return row.precision;
  }
  return std::nullopt;
}

std::string precision_names() {
  std::string names;
  for (const Row& row : kRows) names += (names.empty() ? "" : ", ") + std::string(row.name);
  for (const Row& row : kRows) {
    if (!row.alias.empty()) names += ", " + std::string(row.alias);
  }
  return names;
}

Policy policy_of(Precision precision) { return row_of(precision).policy; }

}  // namespace weft::tensor::amp
