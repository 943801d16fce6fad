#include "launcher/commands/commands.h"

namespace weft::launcher {

std::vector<Command> register_commands(CLI::App& root) {
  return {add_run_command(root),    add_secret_command(root), add_info_command(root),
          add_verify_command(root), add_trace_command(root),  add_simulate_command(root),
          add_consolidate_command(root)};
}

}  // namespace weft::launcher
