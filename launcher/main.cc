// The weft command.
#include <csignal>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "launcher/commands/commands.h"
#include "launcher/job/launch_error.h"

namespace {

using weft::launcher::Command;

int run_command_line(int argc, char** argv) {
  if (argc > 1 && weft::launcher::is_sibling_command(argv[1])) {
    return weft::launcher::run_sibling_command(argc, argv);
  }
  CLI::App app{"weft: collective communication and data-parallel training in C++ and CUDA", "weft"};
  app.set_version_flag("--version", weft::launcher::version_text());
  app.require_subcommand(1);
  app.footer(
      "  bench, verify           Measure collectives, prove schedules (weft bench --help)\n\n"
      "weft SUBCOMMAND --help tells more.");
  const std::vector<Command> commands = weft::launcher::register_commands(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    std::fprintf(stderr, "weft: %s\n", error.what());
    return weft::launcher::kExitUsage;
  }
  for (const auto& command : commands) {
    if (command.app->parsed()) return command.run();
  }
  return weft::launcher::kExitUsage;
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a reader that went away is an error of write()
  try {
    return run_command_line(argc, argv);
  } catch (const weft::launcher::LaunchError& error) {
    std::fprintf(stderr, "weft: %s\n", error.what());
    return error.exit_code();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "weft: %s\n", error.what());
    return 1;
  }
}
