// weft-step: `weft step ...` runs this program.
#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <nlohmann/json.hpp>

#include "bench/output_file.h"
#include "bench/step/measure.h"
#include "bench/step/options.h"
#include "kernels/base/error.h"
#include "kernels/cuda/runtime.h"

namespace {

using namespace weft;  // NOLINT: a program, not a library

std::string name_of_device(const Fabric& fabric) {
  if (fabric.device().type == DeviceType::cpu) return "cpu";
  return kernels::cuda::device_info(fabric.device().index).name;
}

void report(const bench::StepOptions& options, Fabric& fabric, const bench::StepTimes& times) {
  const double seconds = times.median();
  const auto tokens =
      static_cast<double>(options.batch_size * options.model.block_size * fabric.world_size());
  const double flops = times.flops_per_token * tokens / seconds;
  const double peak = times.peak_flops * fabric.world_size();
  fabric.print("GPT of {:.1f}M parameters, {} x {} tokens a rank, {} rank{} on {}, {}",
               static_cast<double>(times.parameters) / 1e6, options.batch_size,
               options.model.block_size, fabric.world_size(), fabric.world_size() == 1 ? "" : "s",
               name_of_device(fabric), fabric.settings().precision);
  fabric.print("step       {:.2f} ms (median of {}{}; loss {:.4f} -> {:.4f})", seconds * 1e3,
               times.seconds.size(), times.graph_launches > 0 ? " launches of a graph" : "",
               times.first_loss, times.last_loss);
  fabric.print("tokens/s   {:.0f}", tokens / seconds);
  fabric.print("utilisation {:.1f}% of {:.2f} TFLOP/s ({})", flops / peak * 100, peak / 1e12,
               options.peak_tflops > 0 ? "as given" : "a measured matrix product a rank");
  if (options.json_file.empty() || !fabric.is_global_zero()) return;
  const nlohmann::json json = {{"device", name_of_device(fabric)},
                               {"precision", fabric.settings().precision},
                               {"tf32", fabric.settings().tf32},
                               {"graph_launches", times.graph_launches},
                               {"ranks", fabric.world_size()},
                               {"batch_size", options.batch_size},
                               {"block_size", options.model.block_size},
                               {"parameters", times.parameters},
                               {"step_ms", seconds * 1e3},
                               {"tokens_per_s", tokens / seconds},
                               {"peak_tflops", peak / 1e12},
                               {"mfu", flops / peak},
                               {"last_loss", times.last_loss}};
  bench::write_text("--json", options.json_file, json.dump(2) + "\n");
}

}  // namespace

int main(int argc, char** argv) {
  const auto options = bench::parse_step_options(argc, argv);
  try {
    options.model.validate();
    FabricOptions fabric_options;
    if (options.accelerator != "auto") fabric_options.accelerator = options.accelerator;
    if (!options.devices.empty()) fabric_options.devices = options.devices;
    if (!options.precision.empty()) fabric_options.precision = options.precision;
    fabric_options.tf32 = options.tf32;
    Fabric fabric(fabric_options);
    fabric.launch();
    fabric.on_rank_zero([&] {
      if (!options.json_file.empty()) bench::require_writable("--json", options.json_file);
    });
    report(options, fabric, bench::measure_steps(options, fabric));
    return 0;
  } catch (const Error& error) {
    fmt::print(stderr, "weft step: {}: {}\n", name_of(error.code()), error.what());
    return 1;
  }
}
