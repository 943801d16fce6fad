// What every command says of itself is text.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/shell.h"

namespace weft {
namespace {

// Names listed under "Subcommands:", up to the next line that is not indented.
std::vector<std::string> subcommands(const std::string& help) {
  std::vector<std::string> names;
  std::istringstream lines(help.substr(std::min(help.size(), help.find("\nSubcommands:\n"))));
  std::string line;
  std::getline(lines, line);
  std::getline(lines, line);
  while (std::getline(lines, line) && (line.empty() || line[0] == ' ')) {
    std::istringstream words(line);
    std::string name;
    if (line.rfind("  ", 0) == 0 && line.size() > 2 && line[2] != ' ' && words >> name) {
      names.push_back(name);
    }
  }
  return names;
}

// Of `command` and all below it; gives how many there were.
int expect_text(const std::string& command) {
  const auto ran = tests::shell(tests::binary("weft") + command + " --help");
  EXPECT_EQ(ran.exit_code, 0) << command;
  EXPECT_THAT(ran.output, testing::HasSubstr("Usage:")) << command;
  const auto odd = std::find_if(ran.output.begin(), ran.output.end(),
                                [](char c) { return c != '\n' && (c < ' ' || c > '~'); });
  const auto at = std::max<std::ptrdiff_t>(odd - ran.output.begin() - 40, 0);
  EXPECT_EQ(odd, ran.output.end())
      << "weft" << command << " --help: byte "
      << static_cast<int>(odd == ran.output.end() ? 0 : *odd)
      << " after: " << ran.output.substr(static_cast<std::size_t>(at), 40);
  int commands = 1;
  for (const std::string& name : subcommands(ran.output)) {
    commands += expect_text(command + " " + name);
  }
  return commands;
}

TEST(Help, OfAllCommandsIsPlainText) { EXPECT_GE(expect_text(""), 14); }

}  // namespace
}  // namespace weft
