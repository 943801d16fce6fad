#include "comm/trace/fields.h"

#include <algorithm>

namespace weft::comm::trace {

namespace {

// How deep brackets nest, those in strings apart.
int depth_of(std::string_view text) {
  int depth = 0;
  int most = 0;
  bool in_string = false;
  for (std::size_t k = 0; k < text.size(); ++k) {
    const char c = text[k];
    if (in_string) {
      if (c == '\\') ++k;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      most = std::max(most, ++depth);
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return most;
}

}  // namespace

nlohmann::json parse_json(std::string_view text, const std::string& where,
                          std::string_view remedy) {
  constexpr int kDepthMax = 32;
  if (depth_of(text) > kDepthMax) {
    fail<Corrupt>("{}: more than {} levels of brackets; {}", where, kDepthMax, remedy);
  }
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::parse_error& error) {
    fail<Corrupt>("{}: no JSON, or cut off, at character {}; {}", where, error.byte, remedy);
  } catch (const nlohmann::json::exception& error) {  // a number too large, say
    fail<Corrupt>("{}: {}; {}", where, error.what(), remedy);
  }
}

}  // namespace weft::comm::trace
