// Where in a JSON text each value stands, for messages that name the line.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace weft::comm::simulate {

// Line (from 1) by JSON pointer ("/stragglers/0/rank"; "" is the document).
using JsonLines = std::map<std::string, int>;

// Throws InvalidArgument, naming `name`, line and field, for what is no JSON, holds a key twice, or
// is nested deeper than `depth_max`.
nlohmann::json parse_with_lines(const std::string& text, const std::string& name, int depth_max,
                                JsonLines& lines);

}  // namespace weft::comm::simulate
