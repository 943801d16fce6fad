// `weft consolidate`: a sharded checkpoint as one file, and back.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "launcher/commands/commands.h"
#include "launcher/job/launch_error.h"
#include "tensor/checkpoint/consolidate.h"
#include "tensor/checkpoint/steps.h"

namespace weft::launcher {
namespace {

namespace fs = std::filesystem;

struct ConsolidateCommandOptions {
  std::string input;
  std::string output;
  bool everything = false;
  int shards = 0;  // 0: one file
};

// A run's directory means its newest checkpoint.
fs::path checkpoint_of(const fs::path& input) {
  std::error_code error;
  if (!fs::is_directory(input, error) || fs::exists(input / checkpoint::kManifestFile, error) ||
      fs::exists(input / checkpoint::kStateFile, error)) {
    return input;
  }
  const auto steps = checkpoint::training_steps(input);
  return steps.empty() ? input : steps.back();
}

int run(const ConsolidateCommandOptions& options) {
  const fs::path output = options.output;
  const auto input = checkpoint_of(options.input);
  std::error_code error;
  if (fs::exists(output, error) && fs::equivalent(input, output, error)) {
    refuse(kExitUsage, "-o {}: that is what is to be read", options.output);
  }
  if (options.shards == 0 && fs::is_directory(output, error)) {
    refuse(kExitUsage, "-o {}: this is a directory; expected a file to write, or --shards N",
           options.output);
  }
  if (options.shards > 0 && fs::exists(output, error) && !fs::is_directory(output, error)) {
    refuse(kExitUsage, "-o {}: this is a file; expected a directory to write", options.output);
  }
  if (options.shards > 0 && fs::is_directory(output, error) &&
      !fs::exists(output / checkpoint::kManifestFile, error) && !fs::is_empty(output, error)) {
    refuse(kExitUsage,
           "-o {}: this directory holds something else than a checkpoint; it would "
           "be replaced",
           options.output);
  }
  const auto source = checkpoint::Source::open(input);
  if (options.shards > 0) {
    checkpoint::split(source, options.shards, output);
  } else {
    checkpoint::consolidate(source, output, {.everything = options.everything});
  }
  fmt::print("{}: {} files of {} ranks, all checked -> {}\n", source.name(),
             source.manifest().files.size(), source.manifest().world_size, options.output);
  return std::fflush(stdout) == 0 ? 0 : 1;
}

}  // namespace

Command add_consolidate_command(CLI::App& root) {
  CLI::App* app = root.add_subcommand(
      "consolidate", "Turn a sharded checkpoint into one safetensors file, or back");
  const auto options = std::make_shared<ConsolidateCommandOptions>();
  app->add_option("CHECKPOINT", options->input,
                  "A checkpoint's directory, a run's (its newest is meant), or a file")
      ->required();
  app->add_option("-o,--output,--output_file,--output-file", options->output,
                  "The file, or with --shards the directory, to write")
      ->required();
  auto* shards =
      app->add_option("--shards", options->shards, "Write a sharded checkpoint, of so many ranks")
          ->check(CLI::Range(1, 1 << 16));
  app->add_flag("--everything", options->everything,
                "The optimizer and the rest too, not the model alone: tensors are called PART.NAME")
      ->excludes(shards);
  app->footer(
      "Everything is checked before anything is written. One file of the model carries its own\n"
      "names (Hugging Face's for GPT-2) and starts a run as --init_from FILE; --everything and "
      "back\n"
      "with --shards loses nothing. Exit code: 0, 1 damaged or unreadable, 2 a wrong option.");
  return {app, [options] { return run(*options); }, {}};
}

}  // namespace weft::launcher
