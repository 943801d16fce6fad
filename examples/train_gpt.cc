// Trains a GPT on text, data-parallel. nanoGPT's options; see --help.
//
//   train_gpt --data shakespeare.txt --devices 2
//   weft run --devices=2 train_gpt --data shakespeare.txt
#include <fmt/format.h>

#include "examples/train_gpt/trainer.h"
#include "kernels/base/error.h"

int main(int argc, char** argv) {
  const auto options = train_gpt::parse_options(argc, argv);
  try {
    weft::FabricOptions fabric_options;
    if (!options.devices.empty()) fabric_options.devices = options.devices;
    if (!options.accelerator.empty()) fabric_options.accelerator = options.accelerator;
    if (!options.strategy.empty()) fabric_options.strategy = options.strategy;
    if (!options.precision.empty()) fabric_options.precision = options.precision;
    fabric_options.tf32 = options.tf32;
    fabric_options.grad_compression = options.grad_compression;
    weft::Fabric fabric(fabric_options);
    fabric.launch();
    train_gpt::Trainer trainer(options, fabric);
    trainer.run();
    return 0;
  } catch (const weft::Error& error) {
    fmt::print(stderr, "train_gpt: {}: {}\n", weft::name_of(error.code()), error.what());
    return 1;
  }
}
