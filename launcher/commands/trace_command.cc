#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "comm/trace/flight_file.h"
#include "comm/trace/merge.h"
#include "launcher/commands/commands.h"
#include "launcher/job/launch_error.h"

namespace weft::launcher {
namespace {

struct TraceOptions {
  comm::trace::MergeOptions merge;
  std::vector<std::string> files;
  int last = 8;
};

int merge(const TraceOptions& options) {
  const auto report = comm::trace::merge_timelines(options.merge);
  fmt::print("{} file{} of {} rank{}, {} events, {} arrows: {}\n", report.files,
             report.files == 1 ? "" : "s", report.ranks, report.ranks == 1 ? "" : "s",
             report.events, report.arrows, options.merge.output);
  if (report.dropped > 0) {
    fmt::print("{} events are missing: there was no room for them (WEFT_TIMELINE_EVENTS)\n",
               report.dropped);
  }
  if (report.clocks.size() > 1) {
    for (const std::string& clock : report.clocks) fmt::print("clock of {}\n", clock);
  }
  return std::fflush(stdout) == 0 ? 0 : 1;
}

// Directories stand for the dumps in them.
std::vector<std::string> find_dumps(const std::vector<std::string>& inputs) {
  namespace fs = std::filesystem;
  std::vector<std::string> files;
  for (const std::string& input : inputs) {
    std::error_code error;
    if (!fs::is_directory(input, error)) {
      files.push_back(input);
      continue;
    }
    const std::size_t before = files.size();
    for (const auto& entry : fs::directory_iterator(input, error)) {
      const std::string name = entry.path().filename().string();
      if (name.rfind("flight.", 0) == 0 && name.ends_with(".json")) {
        files.push_back(entry.path().string());
      }
    }
    if (error) refuse(1, "{}: cannot list it: {}", input, error.message());
    if (files.size() == before) {
      refuse(1,
             "{}: no flight.*.json in it; they are written when a job that was started with "
             "WEFT_FLIGHT_RECORDER={} (or weft run --flight-recorder {}) fails or gets SIGUSR2",
             input, input, input);
    }
    std::sort(files.begin() + static_cast<std::ptrdiff_t>(before), files.end());
  }
  return files;
}

int show(const TraceOptions& options) {
  std::vector<comm::trace::FlightDump> dumps;
  for (const std::string& file : find_dumps(options.files)) {
    dumps.push_back(comm::trace::read_flight_dump(file));
  }
  fmt::print("{}", comm::trace::compare_flight_dumps(dumps, options.last));
  return std::fflush(stdout) == 0 ? 0 : 1;
}

}  // namespace

Command add_trace_command(CLI::App& root) {
  CLI::App* app = root.add_subcommand("trace", "Read what ranks wrote about themselves");
  auto options = std::make_shared<TraceOptions>();
  app->require_subcommand(1);
  CLI::App* merge_app =
      app->add_subcommand("merge", "Join the timelines of a job's ranks into one for Perfetto");
  merge_app->add_option("INPUT", options->merge.inputs, "Directories, or files timeline.*.json")
      ->required();
  merge_app->add_option("-o,--output", options->merge.output, "The file to write")->required();
  merge_app->add_option("--job", options->merge.job, "Which job, where there are several");
  CLI::App* show_app =
      app->add_subcommand("show", "Put the flight recorders of a job's ranks side by side");
  show_app->add_option("INPUT", options->files, "Directories, or files flight.*.json")->required();
  show_app->add_option("-n,--last", options->last, "Operations to show of each rank")
      ->capture_default_str()
      ->check(CLI::Range(0, 1024));
  app->footer(
      "Timelines:        WEFT_TIMELINE=DIR, or weft run --timeline DIR\n"
      "Flight recorders: WEFT_FLIGHT_RECORDER=DIR, or weft run --flight-recorder DIR;\n"
      "                  written when a job fails, on SIGUSR2, and when a rank crashes.");
  return {app,
          [merge_app, options] { return merge_app->parsed() ? merge(*options) : show(*options); },
          {}};
}

}  // namespace weft::launcher
