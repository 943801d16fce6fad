// Runs a command line as a user would type it, and keeps what it printed.
#pragma once

#include <sys/wait.h>
#include <regex>
#include <vector>

#include <array>
#include <cstdio>
#include <string>

namespace weft::tests {

struct Ran {
  int exit_code = -1;
  std::string output;  // standard output and standard error, as they came
};

// Bounded: `timeout` ends what hangs (exit code 124), so that a test fails instead of the whole
// run.
inline Ran shell(const std::string& command, int seconds_max = 120) {
  const auto line =
      "timeout -k 5 " + std::to_string(seconds_max) + " sh -c '" + command + "' 2>&1 </dev/null";
  Ran ran;
  FILE* pipe = popen(line.c_str(), "r");
  if (pipe == nullptr) return ran;
  std::array<char, 4096> buffer;
  while (const auto n = fread(buffer.data(), 1, buffer.size(), pipe))
    ran.output.append(buffer.data(), n);
  const int status = pclose(pipe);
  ran.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return ran;
}

inline std::string binary(const std::string& name) {
  return std::string(WEFT_BIN_DIR) + "/" + name;
}

// What follows `word` and a space in lines of the output: of ranks, without their names.
inline std::vector<std::string> lines_with(const Ran& ran, const std::string& word) {
  std::vector<std::string> lines;
  const std::regex line(word + " ([^\n]*)");
  for (auto it = std::sregex_iterator(ran.output.begin(), ran.output.end(), line);
       it != std::sregex_iterator(); ++it) {
    lines.push_back((*it)[1]);
  }
  return lines;
}

}  // namespace weft::tests
