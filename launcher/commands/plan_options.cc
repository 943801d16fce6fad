#include "launcher/commands/plan_options.h"

#include <CLI/CLI.hpp>
#include <array>
#include <charconv>
#include <cmath>
#include <numeric>

#include "kernels/base/error.h"
#include "launcher/commands/commands.h"
#include "launcher/job/launch_error.h"

namespace weft::launcher {
namespace {

constexpr int kRanksMax = 65'536;
constexpr std::int64_t kSizeMax = std::int64_t{1} << 28;
constexpr std::int64_t kLayersMax = std::int64_t{1} << 16;

struct KnownModel {
  const char* name;
  std::int64_t n_layer, n_head, n_embd;
};
// Radford et al., "Language Models are Unsupervised Multitask Learners", 2019; all with a context
// of 1024 and 50257 tokens.
constexpr std::array<KnownModel, 4> kModels = {{{"gpt2", 12, 12, 768},
                                                {"gpt2-medium", 24, 16, 1024},
                                                {"gpt2-large", 36, 20, 1280},
                                                {"gpt2-xl", 48, 25, 1600}}};
constexpr std::int64_t kContext = 1024, kVocabulary = 50257;

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const auto& model : kModels) names.emplace_back(model.name);
  return names;
}

bool tells_of_a_shape(const PlanOptions& o) {
  return o.n_head > 0 || o.n_embd > 0 || o.vocab_size > 0 || o.block_size > 0;
}

// As many equal units as --n_layer says, beside an empty first one; one that is all where it says
// nothing.
PlannedModel counted_model(const PlanOptions& o) {
  if (!o.model.empty() || tells_of_a_shape(o)) {
    refuse(kExitUsage,
           "--params={} is a count without a shape: leave out --model, --n_head, --n_embd, "
           "--vocab_size and --block_size, or --params",
           o.params);
  }
  const auto total = parse_parameter_count(o.params);
  if (o.n_layer > total) {
    refuse(kExitUsage, "--n_layer={}: more layers than the {} parameters of --params", o.n_layer,
           total);
  }
  PlannedModel model;
  model.name = o.params + " parameters";
  if (o.n_layer == 0) {
    model.units = {Elems(total)};
    return model;
  }
  model.units.assign(static_cast<std::size_t>(o.n_layer) + 1, Elems(total / o.n_layer));
  model.units[0] = Elems(total % o.n_layer);
  return model;
}

}  // namespace

Elems PlannedModel::parameters() const {
  return std::accumulate(units.begin(), units.end(), Elems(0));
}

std::int64_t parse_parameter_count(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string suffix(end, text.data() + text.size());
  double factor = 0;
  if (suffix.empty()) factor = 1;
  if (suffix == "K" || suffix == "k") factor = 1e3;
  if (suffix == "M" || suffix == "m") factor = 1e6;
  if (suffix == "B" || suffix == "b" || suffix == "G") factor = 1e9;
  if (suffix == "T") factor = 1e12;
  const double count = std::floor(value * factor + 0.5);
  constexpr double kMost = 1125899906842624.0;  // 2^50
  if (error != std::errc() || factor == 0 || !(count >= 1 && count <= kMost)) {
    refuse(kExitUsage,
           "--params={}: expected a count such as 124M, 1.5B or 1000 (K, M, B, T are decimal), at "
           "most 1125T",
           text);
  }
  return static_cast<std::int64_t>(count);
}

PlannedModel model_of(const PlanOptions& o) {
  if (!o.params.empty()) return counted_model(o);
  const auto* known = &kModels[0];
  for (const auto& one : kModels) {
    if (o.model == one.name) known = &one;
  }
  const auto chosen = [](std::int64_t typed, std::int64_t otherwise) {
    return typed > 0 ? typed : otherwise;
  };
  PlannedModel model;
  model.has_shape = true;
  model.shape = {.block_size = chosen(o.block_size, kContext),
                 .vocab_size = chosen(o.vocab_size, kVocabulary),
                 .n_layer = chosen(o.n_layer, known->n_layer),
                 .n_head = chosen(o.n_head, known->n_head),
                 .n_embd = chosen(o.n_embd, known->n_embd),
                 .dropout = o.dropout,
                 .bias = o.bias};
  try {
    model.units = nn::gpt_units(model.shape);
  } catch (const InvalidArgument& error) {
    refuse(kExitUsage, "plan: {}", error.what());
  }
  model.name =
      fmt::format("{}{} layers, {} heads, {} wide, context {}, vocabulary {}",
                  o.model.empty() ? "" : o.model + ": ", model.shape.n_layer, model.shape.n_head,
                  model.shape.n_embd, model.shape.block_size, model.shape.vocab_size);
  return model;
}

void declare_plan_options(CLI::App& app, PlanOptions& o) {
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  const auto size = CLI::Range(std::int64_t{1}, kSizeMax);
  app.add_option("--params", o.params,
                 "Parameters (124M, 1.5B), where the shape is not known: activations are left out");
  app.add_option("--model", o.model, "A GPT by its name (default: gpt2)")
      ->check(CLI::IsMember(model_names()));
  app.add_option("--n_layer,--n-layer", o.n_layer,
                 "Transformer blocks; with --params, equal units that it is made of")
      ->check(CLI::Range(std::int64_t{1}, kLayersMax));
  app.add_option("--n_head,--n-head", o.n_head, "Attention heads a block")->check(size);
  app.add_option("--n_embd,--n-embd", o.n_embd, "Width")->check(size);
  app.add_option("--vocab_size,--vocab-size", o.vocab_size, "Tokens there are")->check(size);
  app.add_option("--block_size,--block-size", o.block_size, "Context, and tokens a sequence")
      ->check(size);
  app.add_option("--dropout", o.dropout, "Dropout probability")->check(CLI::Range(0.0, 0.999));
  app.add_option("--bias", o.bias, "Biases in linear and norm layers: True or False")
      ->capture_default_str();
  app.add_option("--batch_size,--batch-size", o.batch_size, "Sequences a rank and micro-batch")
      ->check(size)
      ->capture_default_str();
  app.add_option("--gradient_accumulation_steps,--gradient-accumulation-steps",
                 o.gradient_accumulation_steps, "Micro-batches a step")
      ->check(size)
      ->capture_default_str();
  app.add_option("--strategy", o.strategy, "How ranks share the work, as weft run --strategy")
      ->check(CLI::IsMember(parallel::strategy_names()))
      ->capture_default_str();
  app.add_option("--precision", o.precision, "Numbers to compute with")
      ->check(CLI::IsMember({"16-mixed", "bf16-mixed", "32-true", "64-true", "16-true", "bf16-true",
                             "64", "32", "16", "bf16"}))
      ->capture_default_str();
  app.add_option("-n,--ranks", o.ranks, "Ranks that train together")
      ->check(CLI::Range(1, kRanksMax))
      ->capture_default_str();
  app.add_option("--ranks-per-host,--ranks_per_host", o.ranks_per_host,
                 "Ranks on each host (default: what the network file says, or 1)")
      ->check(CLI::Range(1, kRanksMax));
  app.add_option("--live-units,--live_units", o.live_units,
                 "Units (blocks) that are whole at a time, where they are sharded")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  app.add_option("--memory", o.memory, "What a rank has (80G, 1536M ...): says what fits")
      ->transform(CLI::AsSizeValue(false));
  app.add_option("--network", o.network_file,
                 "File that describes hosts, links and costs (docs/simulate.md)");
  app.add_option("--json", o.json_file, "Write the result to this file as JSON, too");
}

}  // namespace weft::launcher
