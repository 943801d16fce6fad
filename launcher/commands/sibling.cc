#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <string_view>

#include "launcher/commands/commands.h"
#include "launcher/job/file_descriptor.h"
#include "launcher/job/launch_error.h"

namespace weft::launcher {

bool is_sibling_command(const std::string& name) {
  static constexpr std::array<std::string_view, 3> kSiblings = {"bench", "step", "tune"};
  return std::find(kSiblings.begin(), kSiblings.end(), name) != kSiblings.end();
}

int run_sibling_command(int argc, char** argv) {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) refuse(1, "cannot find where weft itself is: {}", error.message());
  const std::string path = (self.parent_path() / fmt::format("weft-{}", argv[1])).string();
  // argv[0] becomes "weft-bench"; the rest is for it.
  std::vector<char*> arguments{const_cast<char*>(path.c_str())};
  arguments.insert(arguments.end(), argv + 2, argv + argc);
  arguments.push_back(nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  execv(path.c_str(), arguments.data());
  const int number = errno;
  refuse(number == ENOENT ? kExitNotFound : kExitNotExecutable,
         "`weft {}` needs the program {}, which cannot be run: {}. Build it (target weft_{}) or "
         "install it beside weft.",
         argv[1], path, errno_text(number), argv[1]);
}

}  // namespace weft::launcher
