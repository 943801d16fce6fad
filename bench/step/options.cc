#include "bench/step/options.h"

#include <CLI/CLI.hpp>
#include <cstdlib>

#include "tensor/amp/precision.h"

namespace weft::bench {

StepOptions parse_step_options(int argc, char** argv) {
  StepOptions o;
  o.model.block_size = 1024;
  CLI::App app("Times training steps of a GPT-2 on random tokens.", "weft step");
  app.add_option("--accelerator", o.accelerator, "Where to compute")
      ->check(CLI::IsMember({"auto", "cpu", "gpu", "cuda"}))
      ->capture_default_str();
  app.add_option("--devices", o.devices, "Ranks to start, as in weft run (default: 1)");
  app.add_option("--precision", o.precision, tensor::amp::precision_names());
  app.add_flag("--tf32", o.tf32, "On cuda, products of f32 may round their factors to TF32");
  app.add_flag("--graph", o.graph, "On cuda, capture the step into a graph and launch that");
  const auto size = [&](const char* name, std::int64_t& value, const char* what) {
    app.add_option(name, value, what)->check(CLI::Range(1, 1 << 24))->capture_default_str();
  };
  size("--batch_size", o.batch_size, "Sequences a rank and step");
  size("--block_size", o.model.block_size, "Tokens of a sequence");
  size("--n_layer", o.model.n_layer, "Blocks; the defaults are GPT-2's smallest, 124M parameters");
  size("--n_head", o.model.n_head, "Heads of attention");
  size("--n_embd", o.model.n_embd, "Width");
  size("--vocab_size", o.model.vocab_size, "Vocabulary");
  app.add_option("--dropout", o.model.dropout, "Probability of zeroing")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  app.add_option("--steps", o.steps, "Steps to time")
      ->check(CLI::Range(1, 100'000))
      ->capture_default_str();
  app.add_option("--warmup", o.warmup, "Steps before that")
      ->check(CLI::Range(1, 100'000))
      ->capture_default_str();
  app.add_option("--peak", o.peak_tflops,
                 "TFLOP/s that utilisation is held against (default: a large matrix product's)")
      ->check(CLI::PositiveNumber);
  app.add_option("--json", o.json_file, "Write the figures to this file, too");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    std::exit(code == 0 ? 0 : 2);
  }
  return o;
}

}  // namespace weft::bench
