#include "tensor/data/utf8.h"

namespace weft::data {

std::optional<char32_t> take_code_point(std::string_view& text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const auto first = byte(0);
  if (first < 0x80) {
    text.remove_prefix(1);
    return first;
  }
  struct Form {
    std::size_t length;
    char32_t smallest;  // anything below would have had a shorter form
    unsigned mask;
  };
  Form form{};
  if ((first & 0xe0) == 0xc0) {
    form = {2, 0x80, 0x1f};
  } else if ((first & 0xf0) == 0xe0) {
    form = {3, 0x800, 0x0f};
  } else if ((first & 0xf8) == 0xf0) {
    form = {4, 0x10000, 0x07};
  } else {
    return std::nullopt;
  }
  if (text.size() < form.length) return std::nullopt;
  char32_t value = first & form.mask;
  for (std::size_t i = 1; i < form.length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return std::nullopt;
    value = (value << 6) | (byte(i) & 0x3fu);
  }
  const bool is_surrogate = value >= 0xd800 && value <= 0xdfff;
  if (value < form.smallest || value > 0x10ffff || is_surrogate) return std::nullopt;
  text.remove_prefix(form.length);
  return value;
}

std::optional<std::size_t> first_invalid_utf8(std::string_view text) {
  const auto size = text.size();
  while (!text.empty()) {
    if (!take_code_point(text)) return size - text.size();
  }
  return std::nullopt;
}

void append_utf8(std::string& text, char32_t c) {
  const auto put = [&](char32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xc0 | (c >> 6));
    put(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    put(0xe0 | (c >> 12));
    put(0x80 | ((c >> 6) & 0x3f));
    put(0x80 | (c & 0x3f));
  } else {
    put(0xf0 | (c >> 18));
    put(0x80 | ((c >> 12) & 0x3f));
    put(0x80 | ((c >> 6) & 0x3f));
    put(0x80 | (c & 0x3f));
  }
}

}  // namespace weft::data
