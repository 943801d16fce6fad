// The weft command.
#include <fcntl.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <utility>
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
      "  bench                       Measure collectives (weft bench --help)\n"
      "  step                        Time training steps of a GPT-2\n"
      "  tune                        Fit the choice of algorithms to this machine\n\n"
      "weft SUBCOMMAND --help tells more.");
  const std::vector<Command> commands = weft::launcher::register_commands(app);
  std::vector<std::string> arguments(argv + 1, argv + argc);
  for (const auto& command : commands) {
    const bool named = !arguments.empty() && arguments[0] == command.app->get_name();
    if (named && command.take_own) command.take_own(arguments);
  }
  try {
    std::reverse(arguments.begin(), arguments.end());  // CLI11 wants them so
    app.parse(std::move(arguments));
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

// Descriptors that we open must not become standard input, output or error.
void fill_standard_descriptors() {
  for (int fd = 0; fd <= 2; ++fd) {
    if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0) std::abort();
  }
}

}  // namespace

int main(int argc, char** argv) {
  fill_standard_descriptors();
  std::signal(SIGPIPE, SIG_IGN);  // a reader that went away is an error of write()
  spdlog::set_default_logger(spdlog::stderr_color_mt("weft"));  // standard output is the ranks'
  spdlog::set_pattern("weft: %l: %v");
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
