#include <CLI/CLI.hpp>
#include <cstdio>

#include "launcher/commands/commands.h"
#include "launcher/job/topology.h"

namespace weft::launcher {

std::string version_text() { return "weft 0.1.0"; }

Command add_info_command(CLI::App& root) {
  CLI::App* app = root.add_subcommand("info", "Show versions, cores, devices and transports");
  return {app, [] {
            std::printf("%s\n%s\n", version_text().c_str(), read_machine().summary().c_str());
            return 0;
          }};
}

}  // namespace weft::launcher
