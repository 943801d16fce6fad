#include "launcher/job/program.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <string_view>

#include "launcher/job/file_descriptor.h"
#include "launcher/job/launch_error.h"

namespace weft::launcher {
namespace {

// Why this path cannot be executed; nothing if it can. `missing` tells "not there" from "not ours".
std::optional<std::string> obstacle(const std::string& path, bool& missing) {
  struct stat status {};
  missing = false;
  if (stat(path.c_str(), &status) != 0) {
    missing = errno == ENOENT || errno == ENOTDIR;
    return errno_text(errno);
  }
  if (S_ISDIR(status.st_mode)) return "it is a directory";
  if (!S_ISREG(status.st_mode)) return "it is not a regular file";
  if (access(path.c_str(), X_OK) != 0) {
    return errno == EACCES ? "it is not executable (chmod +x?)" : errno_text(errno);
  }
  return std::nullopt;
}

}  // namespace

std::string find_program(const std::string& name, const std::string& search_path) {
  if (name.empty()) refuse(kExitNotFound, "the program's name is empty");
  bool missing = false;
  if (name.find('/') != std::string::npos) {
    const auto problem = obstacle(name, missing);
    if (!problem) return name;
    refuse(missing ? kExitNotFound : kExitNotExecutable, "cannot run {}: {}", name, *problem);
  }
  std::string refused;
  std::string_view rest = search_path;
  while (true) {
    const auto colon = rest.find(':');
    const std::string_view folder = rest.substr(0, colon);
    const std::string path = (folder.empty() ? "." : std::string(folder)) + "/" + name;
    const auto problem = obstacle(path, missing);
    if (!problem) return path;
    if (!missing && refused.empty()) refused = path + ": " + *problem;
    if (colon == std::string_view::npos) break;
    rest.remove_prefix(colon + 1);
  }
  if (!refused.empty()) refuse(kExitNotExecutable, "cannot run {}", refused);
  struct stat status {};
  if (stat(name.c_str(), &status) == 0 && S_ISREG(status.st_mode)) {
    refuse(kExitNotFound, "{} is not on PATH. Did you mean ./{} ?", name, name);
  }
  refuse(kExitNotFound, "there is no program {} on PATH", name);
}

}  // namespace weft::launcher
