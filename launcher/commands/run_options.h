// What `weft run` was told, checked as far as the command line alone allows.
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace weft::launcher {

struct RunOptions {
  std::string accelerator = "auto";
  std::string strategy;   // empty: not given
  std::string precision;  // empty: not given; aliases resolved
  std::string devices = "1";
  bool share_devices = false;
  int num_nodes = 1;
  int node_rank = 0;
  std::string main_address = "127.0.0.1";
  int main_port = 29400;
  std::string secret_file;
  double rendezvous_timeout_s = 60;

  std::string transport;  // empty: not given
  std::string interface;
  std::string algorithm;
  std::string tuning;
  std::string flight_recorder;
  std::string timeline;

  std::string bind = "auto";
  bool no_prefix = false;
  bool quiet = false;
  bool dry_run = false;
  double grace_time_s = 2;

  bool accelerator_given = false;
  std::vector<std::string> program;  // and its arguments
};

// Declares the options on `app`; parsing fills `options`.
void declare_run_options(CLI::App& app, RunOptions& options);

// Moves PROGRAM and all that follows from `arguments` ("run", options...) to options.program, so
// that nothing of it is taken for an option of ours or changed by the parser.
void take_program(const CLI::App& app, std::vector<std::string>& arguments, RunOptions& options);

// After parsing: ranges and what must go together. Throws LaunchError (exit code 2).
void check_run_options(const CLI::App& app, RunOptions& options);

}  // namespace weft::launcher
