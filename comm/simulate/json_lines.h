// Where in a JSON text each value stands, for messages that name the line.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace weft::comm::simulate {

// Line (from 1) by JSON pointer ("/stragglers/0/rank"; "" is the document).
using JsonLines = std::map<std::string, int>;

// A field's name as part of a JSON pointer: '~' and '/' are "~0" and "~1" there.
std::string pointer_token(const std::string& name);

// For messages: control characters as JSON writes them ("\u0000").
std::string printable(const std::string& text);

// Throws InvalidArgument, naming `name`, line and field, for what is no JSON, holds a key twice, or
// is nested deeper than `depth_max`.
nlohmann::json parse_with_lines(const std::string& text, const std::string& name, int depth_max,
                                JsonLines& lines);

}  // namespace weft::comm::simulate
