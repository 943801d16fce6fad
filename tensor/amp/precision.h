// The precisions that training can be told to use: Lightning Fabric's names, and what each means.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "kernels/base/dtype.h"

namespace weft::tensor::amp {

enum class Precision : std::uint8_t {
  true_32,     // "32-true", "32": no casting
  true_64,     // "64-true", "64": parameters and inputs in f64
  mixed_16,    // "16-mixed", "16": f32 parameters, f16 compute, a loss scale (amp/grad_scaler.h)
  mixed_bf16,  // "bf16-mixed", "bf16": f32 parameters, bf16 compute
  true_16,     // "16-true": parameters and inputs in f16
  true_bf16,   // "bf16-true": parameters and inputs in bf16
};

std::string_view name_of(Precision precision);
std::optional<Precision> parse_precision(std::string_view name);  // names and aliases
std::string precision_names();                                    // "16-mixed, bf16-mixed, ..."

// What a precision asks of a module: what its parameters are kept in, what floating inputs of its
// forward become, under which autocast it runs, and what it gives back.
struct Policy {
  DType parameters = DType::f32;
  DType inputs = DType::f32;
  std::optional<DType> compute = {};  // autocast's low type
  std::optional<DType> outputs = {};  // none: as they come
  bool scales_loss = false;
};
Policy policy_of(Precision precision);

}  // namespace weft::tensor::amp

namespace weft {
namespace amp = tensor::amp;
}
