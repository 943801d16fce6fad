#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "comm/rendezvous/handshake.h"
#include "launcher/commands/commands.h"

namespace weft::launcher {
namespace {

int print_secret() {
  struct stat status {};
  if (fstat(STDOUT_FILENO, &status) == 0 && S_ISREG(status.st_mode) &&
      (status.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    // The shell made the file before we ran; only its owner may read what goes in.
    if (fchmod(STDOUT_FILENO, S_IRUSR | S_IWUSR) != 0) {
      std::fprintf(stderr,
                   "weft: standard output is a file that others may read, and its mode cannot be "
                   "changed. Make it with: (umask 077; weft secret > FILE)\n");
      return 1;
    }
  }
  std::printf("%s\n", comm::format_secret(comm::make_secret()).c_str());
  return std::fflush(stdout) == 0 ? 0 : 1;
}

}  // namespace

Command add_secret_command(CLI::App& root) {
  CLI::App* app = root.add_subcommand("secret", "Print a new secret for a job of several nodes");
  app->footer(
      "Every node needs the same secret in a file that only its owner may read:\n"
      "  (umask 077; weft secret > FILE)\n"
      "and `weft run --secret-file FILE ...` on each. Whoever knows it can join the job.");
  return {app, print_secret, {}};
}

}  // namespace weft::launcher
