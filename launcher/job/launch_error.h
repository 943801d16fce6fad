// What stops a launch before any rank runs, with the exit code that scripts expect: 2 the command
// line is wrong, 126 the program cannot be executed, 127 there is no such program, 1 anything else.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace weft::launcher {

inline constexpr int kExitUsage = 2;
inline constexpr int kExitNotExecutable = 126;
inline constexpr int kExitNotFound = 127;

class LaunchError : public std::runtime_error {
 public:
  LaunchError(int exit_code, const std::string& message)
      : std::runtime_error(message), exit_code_(exit_code) {}
  int exit_code() const noexcept { return exit_code_; }

 private:
  int exit_code_;
};

template <class... Args>
[[noreturn]] void refuse(int exit_code, fmt::format_string<Args...> format, Args&&... args) {
  throw LaunchError(exit_code, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace weft::launcher
