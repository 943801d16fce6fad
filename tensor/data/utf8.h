// UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace weft::data {

// The code point at the front of `text`, which loses its bytes; nullopt where that is not UTF-8
// (and `text` stays). `text` must not be empty.
std::optional<char32_t> take_code_point(std::string_view& text);
// Offset of the first byte that does not belong.
std::optional<std::size_t> first_invalid_utf8(std::string_view text);
void append_utf8(std::string& text, char32_t code_point);

}  // namespace weft::data
