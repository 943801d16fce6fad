// The state of a loss scale as text.
#include <cmath>
#include <locale>
#include <sstream>

#include "kernels/base/error.h"
#include "tensor/amp/grad_scaler.h"

namespace weft::tensor::amp {
namespace {

bool is_scale(double value) {  // a number by which f32 can be multiplied
  return value > 0.0 && std::isfinite(static_cast<float>(value)) &&
         static_cast<float>(value) > 0.0f;
}

}  // namespace

bool is_valid(const GradScalerState& state) {
  return is_scale(state.scale) && state.clean_updates >= 0 && state.skipped_updates >= 0;
}

std::string to_string(const GradScalerState& state) {
  return fmt::format("{} {} {}", state.scale, state.clean_updates, state.skipped_updates);
}

GradScalerState parse_grad_scaler_state(const std::string& text, const std::string& source) {
  GradScalerState state;
  std::istringstream in(text);
  in.imbue(std::locale::classic());
  std::string rest;
  if (!(in >> state.scale >> state.clean_updates >> state.skipped_updates) || in >> rest) {
    fail<Corrupt>(
        "{}: '{}' is no state of a loss scale; expected the scale and the counts of clean and "
        "skipped updates",
        source, text);
  }
  return state;
}

}  // namespace weft::tensor::amp
