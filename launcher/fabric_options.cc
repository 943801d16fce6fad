#include "launcher/fabric_options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <span>
#include <string_view>

#include "kernels/base/error.h"
#include "launcher/job/cuda_devices.h"

namespace weft::launcher {
namespace {

// A value of `weft run`'s, or nothing.
std::optional<std::string> from_cli(const char* variable) {
  const char* value = std::getenv(variable);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return value;
}

std::string list(std::span<const std::string_view> names) {
  std::string text;
  for (const auto name : names) text += (text.empty() ? "" : ", ") + std::string(name);
  return text;
}

// Code and command line must say the same, where both say something.
std::string agree(const std::optional<std::string>& in_code, const char* argument,
                  const char* variable, std::string fallback,
                  std::string (*canonical)(const std::string&) = nullptr) {
  const auto cli = from_cli(variable);
  const auto differ = [&] {
    return canonical == nullptr ? *in_code != *cli : canonical(*in_code) != canonical(*cli);
  };
  if (in_code && cli && differ() && *in_code != "auto" && *cli != "auto") {
    fail<InvalidArgument>(
        "Fabric(): {}={} in the code conflicts with the value {} that `weft run --{}` was given. "
        "Leave one of them out.",
        argument, *in_code, *cli, argument);
  }
  if (cli) return *cli;
  return in_code.value_or(std::move(fallback));
}

constexpr std::array<std::string_view, 17> kStrategies = {"auto",
                                                          "ddp",
                                                          "dp",
                                                          "ddp_find_unused_parameters_true",
                                                          "ddp_spawn",
                                                          "ddp_fork",
                                                          "ddp_notebook",
                                                          "fsdp",
                                                          "deepspeed",
                                                          "deepspeed_stage_1",
                                                          "deepspeed_stage_2",
                                                          "deepspeed_stage_3",
                                                          "deepspeed_stage_1_offload",
                                                          "deepspeed_stage_2_offload",
                                                          "deepspeed_stage_3_offload",
                                                          "deepspeed_offload",
                                                          "fsdp_offload"};

// Of a strategy that shares out state; with or without _offload.
std::optional<int> zero_stage(std::string_view name) {
  constexpr std::string_view kOffload = "_offload";
  if (name.ends_with(kOffload)) name.remove_suffix(kOffload.size());
  if (name == "deepspeed_stage_1") return 1;
  if (name == "deepspeed" || name == "deepspeed_stage_2") return 2;
  if (name == "deepspeed_stage_3" || name == "fsdp") return 3;
  return std::nullopt;
}

std::string resolve_strategy(const std::string& name) {
  if (std::find(kStrategies.begin(), kStrategies.end(), name) == kStrategies.end()) {
    fail<InvalidArgument>("Fabric(): there is no strategy '{}'; choose one of: {}", name,
                          list(kStrategies));
  }
  if (name == "auto" || name == "ddp") return "ddp";
  if (name == "dp") return "ddp";  // on CPU, as Lightning Fabric does
  if (name == "ddp_find_unused_parameters_true" || zero_stage(name)) return name;
  fail<Unsupported>(
      "Fabric(): strategy '{}' starts ranks from an interactive process, which native programs "
      "have "
      "none of; use 'ddp'.",
      name);
}

// What the strategy's name says and the options add. After accelerator and compression are known.
void resolve_zero(const FabricOptions& options, FabricSettings& settings) {
  const auto stage = zero_stage(settings.strategy);
  if (!stage) {
    if (!options.zero) return;
    fail<InvalidArgument>(
        "Fabric(): units of ZeRO (FabricOptions::zero) with strategy '{}': choose deepspeed, "
        "deepspeed_stage_1, _2, _3 or fsdp, or leave them out.",
        settings.strategy);
  }
  if (settings.accelerator != "cpu") {
    fail<Unsupported>(
        "Fabric(): strategy '{}' on accelerator '{}': this version of weft shares out state "
        "between "
        "CPU ranks only; use 'ddp' there, or accelerator='cpu'.",
        settings.strategy, settings.accelerator);
  }
  if (settings.grad_compression != parallel::Compression::none) {
    fail<Unsupported>(
        "Fabric(): grad_compression '{}' with strategy '{}': gradients that are reduced into "
        "shares "
        "travel as they are; use 'ddp', or no compression.",
        parallel::name_of(settings.grad_compression), settings.strategy);
  }
  settings.zero = options.zero.value_or(parallel::ZeroOptions{});
  settings.zero->stage = *stage;
  if (!settings.zero->low) settings.zero->low = settings.policy.compute;
  if (settings.strategy.ends_with("_offload")) {
    settings.warnings.push_back(fmt::format(
        "strategy {}: on the CPU all state lies in host memory already; it runs as stage {}",
        settings.strategy, *stage));
  }
}

std::string resolve_accelerator(const std::string& name) {
  constexpr std::array<std::string_view, 6> kAccelerators = {"auto", "cpu", "gpu",
                                                             "cuda", "mps", "tpu"};
  if (std::find(kAccelerators.begin(), kAccelerators.end(), name) == kAccelerators.end()) {
    fail<InvalidArgument>("Fabric(): there is no accelerator '{}'; choose one of: {}", name,
                          list(kAccelerators));
  }
  if (name == "cpu") return "cpu";
  const bool has_cuda = cuda_device_count() > 0;
  if (name == "auto") return has_cuda ? "cuda" : "cpu";
  if (name == "mps" || name == "tpu") {
    fail<Unsupported>(
        "Fabric(): accelerator '{}': weft trains on the CPU and on CUDA devices; use "
        "accelerator='cpu' or 'cuda'.",
        name);
  }
  if (!has_cuda) {
    fail<Unsupported>(
        "Fabric(): accelerator '{}': there is no CUDA device: {}. Use accelerator='cpu'.", name,
        reason_for_no_cuda());
  }
  return "cuda";
}

// An alias as its name; what is unknown stays as it is.
std::string canonical_precision(const std::string& given) {
  const auto precision = amp::parse_precision(given);
  return precision ? std::string(amp::name_of(*precision)) : given;
}

void resolve_precision(const FabricOptions& options, FabricSettings& settings) {
  const auto name =
      agree(options.precision, "precision", "WEFT_PRECISION", "32-true", canonical_precision);
  auto precision = amp::parse_precision(name == "auto" ? "32-true" : name);
  if (!precision) {
    fail<InvalidArgument>("Fabric(): there is no precision '{}'; choose one of: {}", name,
                          amp::precision_names());
  }
  if (options.grad_scaler && precision != amp::Precision::mixed_16) {
    fail<InvalidArgument>(
        "Fabric(): a grad_scaler with precision {}: only 16-mixed scales its loss. Leave one of "
        "them out.",
        amp::name_of(*precision));
  }
  if (precision == amp::Precision::mixed_16 && settings.accelerator == "cpu" &&
      !options.grad_scaler) {
    precision = amp::Precision::mixed_bf16;
    settings.warnings.emplace_back(
        "precision 16-mixed is for GPUs; the CPU runs bf16-mixed instead (f16 has no speed to "
        "offer "
        "here, and bf16 needs no loss scale)");
  }
  settings.tf32 = options.tf32 && settings.accelerator == "cuda";
  if (options.tf32 && !settings.tf32) {
    settings.warnings.emplace_back(
        "tf32 is for products on CUDA devices; the CPU's keep all bits of f32");
  }
  settings.precision = amp::name_of(*precision);
  settings.policy = amp::policy_of(*precision);
  if (settings.policy.scales_loss)
    settings.grad_scaler = options.grad_scaler.value_or(amp::GradScalerOptions{});
}

int resolve_nodes(const std::optional<int>& in_code) {
  const auto cli = from_cli("WEFT_NUM_NODES");
  int from_text = 0;
  if (cli) {
    const auto* end = cli->data() + cli->size();
    const auto [stop, error] = std::from_chars(cli->data(), end, from_text);
    if (error != std::errc() || stop != end || from_text < 1) {
      fail<InvalidArgument>("WEFT_NUM_NODES='{}': expected a whole number, at least 1.", *cli);
    }
    if (in_code && *in_code != from_text) {
      fail<InvalidArgument>(
          "Fabric(): num_nodes={} in the code conflicts with the value {} that `weft run "
          "--num-nodes` was given. Leave "
          "one of them out.",
          *in_code, from_text);
    }
    return from_text;
  }
  const int nodes = in_code.value_or(1);
  if (nodes < 1) fail<InvalidArgument>("Fabric(): num_nodes={}: expected at least 1.", nodes);
  return nodes;
}

parallel::Compression resolve_compression(const std::string& name) {
  if (const auto compression = parallel::parse_compression(name)) return *compression;
  fail<InvalidArgument>(
      "Fabric(): there is no grad_compression '{}'; choose one of: none, fp16, bf16, int8", name);
}

}  // namespace

FabricSettings resolve(const FabricOptions& options) {
  FabricSettings settings;
  settings.accelerator =
      resolve_accelerator(agree(options.accelerator, "accelerator", "WEFT_ACCELERATOR", "auto"));
  settings.strategy =
      resolve_strategy(agree(options.strategy, "strategy", "WEFT_STRATEGY", "auto"));
  settings.share_devices = options.share_devices;
  if (options.share_devices && settings.accelerator == "cpu") {
    settings.warnings.emplace_back(
        "share_devices is for CUDA devices; ranks on the CPU share its cores anyway");
  }
  settings.devices = agree(options.devices, "devices", "WEFT_DEVICES", "1");
  resolve_precision(options, settings);
  settings.grad_compression = resolve_compression(options.grad_compression.value_or("none"));
  resolve_zero(options, settings);
  settings.num_nodes = resolve_nodes(options.num_nodes);
  return settings;
}

}  // namespace weft::launcher
