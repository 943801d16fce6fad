#include "tensor/nn/state_dict.h"

#include <algorithm>
#include <unordered_map>

#include "tensor/autograd/node.h"

namespace weft::nn {
namespace {

constexpr std::size_t kNamesShown = 8;

std::string join(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kNamesShown); ++i) {
    text += (i == 0 ? "" : ", ") + names[i];
  }
  if (names.size() > kNamesShown) text += fmt::format(" and {} more", names.size() - kNamesShown);
  return text;
}

// Empty where `from` fits.
std::string difference(const std::string& name, const Tensor& to, const Tensor& from) {
  if (to.shape() != from.shape()) {
    return fmt::format("{}: expected shape {}, found {}", name, tensor::to_string(to.shape()),
                       tensor::to_string(from.shape()));
  }
  const bool convertible = is_floating(to.dtype()) && is_floating(from.dtype());
  if (to.dtype() != from.dtype() && !convertible) {
    return fmt::format("{}: expected {}, found {}", name, name_of(to.dtype()),
                       name_of(from.dtype()));
  }
  return {};
}

}  // namespace

StateMatch::StateMatch(const StateDict& expected, const StateDict& given,
                       const LoadOptions& options) {
  std::unordered_map<std::string_view, const Tensor*> found;
  std::vector<std::string> wrong;
  for (const auto& entry : given) {
    if (!found.emplace(entry.name, &entry.tensor).second) {
      wrong.push_back(fmt::format("{}: given twice", entry.name));
    }
  }
  for (const auto& entry : expected) {
    const auto it = found.find(entry.name);
    if (it == found.end()) {
      report_.missing.push_back(entry.name);
      continue;
    }
    auto text = difference(entry.name, entry.tensor, *it->second);
    if (text.empty()) {
      copies_.emplace_back(entry.tensor, *it->second);
    } else {
      wrong.push_back(std::move(text));
    }
    found.erase(it);
  }
  for (const auto& entry : given) {
    if (found.erase(entry.name) != 0) report_.unexpected.push_back(entry.name);
  }
  const bool names_differ = !report_.missing.empty() || !report_.unexpected.empty();
  if (wrong.empty() && !(options.strict && names_differ)) return;
  std::string text = fmt::format("{} does not fit what is to be loaded.", options.source);
  if (!wrong.empty()) text += fmt::format(" Different: {}.", join(wrong));
  if (options.strict && !report_.missing.empty()) {
    text += fmt::format(" Missing: {}.", join(report_.missing));
  }
  if (options.strict && !report_.unexpected.empty()) {
    text += fmt::format(" Unexpected: {}.", join(report_.unexpected));
  }
  fail<Mismatch>("{} Nothing was loaded; build it with the configuration that was saved.", text);
}

void StateMatch::apply() const {
  NoGrad no_grad;
  for (auto [to, from] : copies_) to.copy_(from);
}

const Tensor* find(const StateDict& state, std::string_view name) {
  const auto it = std::find_if(state.begin(), state.end(),
                               [&](const NamedTensor& entry) { return entry.name == name; });
  return it == state.end() ? nullptr : &it->tensor;
}

bool equal_values(const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape()) return false;
  if (a.same_as(b)) return true;
  NoGrad no_grad;
  const auto x = a.to(Device{}).to(DType::f64).contiguous();
  const auto y = b.to(Device{}).to(DType::f64).contiguous();
  const auto* p = x.data<double>();
  return std::equal(p, p + x.numel(), y.data<double>());
}

}  // namespace weft::nn
