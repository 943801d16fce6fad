#include <algorithm>

#include "tensor/nn/gpt.h"

namespace weft::nn {
namespace {

bool ends_with(const std::string& text, std::string_view end) {
  return text.size() >= end.size() &&
         std::string_view(text).substr(text.size() - end.size()) == end;
}

// "h.12.rest" -> 12
std::optional<std::int64_t> layer_of(std::string_view name) {
  const auto start = name.find("h.");
  if (start == std::string_view::npos || (start != 0 && name[start - 1] != '.')) return {};
  std::int64_t layer = -1;
  for (auto i = start + 2; i < name.size() && i < start + 9; ++i) {
    if (name[i] == '.') return layer < 0 ? std::nullopt : std::optional(layer);
    if (name[i] < '0' || name[i] > '9') return {};
    layer = std::max<std::int64_t>(layer, 0) * 10 + (name[i] - '0');
  }
  return {};
}

const Tensor& need_matrix(const StateDict& state, const char* name, const std::string& source) {
  const Tensor* found = find(state, std::string("transformer.") + name);
  if (found == nullptr) found = find(state, name);
  if (found == nullptr || found->dim() != 2) {
    fail<Mismatch>("{} is no GPT-2: expected a matrix transformer.{}, found {}", source, name,
                   found == nullptr ? "none" : tensor::to_string(found->shape()));
  }
  return *found;
}

}  // namespace

GPTConfig infer_gpt_config(const StateDict& state, std::optional<std::int64_t> n_head,
                           const std::string& source) {
  constexpr std::int64_t kHeadWidth = 64;  // of every published GPT-2
  const auto& tokens = need_matrix(state, "wte.weight", source);
  const auto& positions = need_matrix(state, "wpe.weight", source);
  GPTConfig config;
  config.vocab_size = tokens.size(0);
  config.n_embd = tokens.size(1);
  config.block_size = positions.size(0);
  config.n_layer = 0;
  config.bias = false;
  for (const auto& entry : state) {
    if (const auto layer = layer_of(entry.name)) {
      config.n_layer = std::max(config.n_layer, *layer + 1);
    }
    if (ends_with(entry.name, "ln_f.bias")) config.bias = true;
  }
  if (!n_head && config.n_embd % kHeadWidth != 0) {
    fail<Mismatch>("{}: n_head is not recorded and {} channels are no multiple of {}; pass n_head",
                   source, config.n_embd, kHeadWidth);
  }
  config.n_head = n_head.value_or(config.n_embd / kHeadWidth);
  config.validate();
  return config;
}

void GPT::adapt_state_dict(StateDict& given) const {
  std::erase_if(given, [](const NamedTensor& entry) {  // masks, not parameters
    return ends_with(entry.name, ".attn.bias") || ends_with(entry.name, ".attn.masked_bias");
  });
  if (find(given, "wte.weight") == nullptr) return;
  for (auto& entry : given) {
    if (entry.name != "lm_head.weight") entry.name = "transformer." + entry.name;
  }
}

}  // namespace weft::nn
