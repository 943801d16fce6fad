// Finds the program to run as execvp would, but before anything is started.
#pragma once

#include <string>

namespace weft::launcher {

// The path to execute: `name` itself if it has a slash, else the first executable of that name in
// `search_path` (PATH's value). Throws LaunchError: 127 no such program, 126 not executable.
std::string find_program(const std::string& name, const std::string& search_path);

}  // namespace weft::launcher
