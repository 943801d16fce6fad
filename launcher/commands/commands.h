// The subcommands of weft, each in its own file. A new one is a function here and a line in
// register_commands().
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace weft::launcher {

struct Command {
  CLI::App* app = nullptr;   // as registered below the root
  std::function<int()> run;  // after parsing; gives the exit code
  // Before parsing: takes away what is not for us (a program and its arguments, say). May be empty.
  std::function<void(std::vector<std::string>& arguments)> take_own;
};

std::vector<Command> register_commands(CLI::App& root);

Command add_run_command(CLI::App& root);
Command add_secret_command(CLI::App& root);
Command add_info_command(CLI::App& root);
Command add_verify_command(CLI::App& root);
Command add_trace_command(CLI::App& root);
Command add_simulate_command(CLI::App& root);
Command add_consolidate_command(CLI::App& root);

std::string version_text();

// `weft bench ...` is the program weft-bench beside weft (its room is above the launcher's, which
// therefore cannot link it). Same arguments; does not return if it is there.
bool is_sibling_command(const std::string& name);
int run_sibling_command(int argc, char** argv);

}  // namespace weft::launcher
