#include "tensor/data/tokenizer.h"

#include <algorithm>

#include "kernels/base/error.h"
#include "tensor/data/utf8.h"

namespace weft::data {
namespace {

constexpr char32_t kCodePoints = 0x110000;

void check_token(std::int64_t token, std::int64_t vocab_size) {
  if (token < 0 || token >= vocab_size) {
    fail<InvalidArgument>("decode: token {} is outside the vocabulary, 0..{}", token,
                          vocab_size - 1);
  }
}

[[noreturn]] void not_utf8(std::size_t offset) {
  fail<InvalidArgument>(
      "the char tokenizer reads UTF-8, and the text is not at byte {}; use the byte tokenizer",
      offset);
}

}  // namespace

std::vector<std::int32_t> ByteTokenizer::encode(std::string_view text) const {
  std::vector<std::int32_t> tokens(text.size());
  std::transform(text.begin(), text.end(), tokens.begin(),
                 [](char c) { return static_cast<unsigned char>(c); });
  return tokens;
}

std::string ByteTokenizer::decode(std::span<const std::int64_t> tokens) const {
  std::string text;
  text.reserve(tokens.size());
  for (const auto token : tokens) {
    check_token(token, vocab_size());
    text.push_back(static_cast<char>(token));
  }
  return text;
}

CharTokenizer::CharTokenizer(std::string_view text) {
  if (text.empty()) fail<InvalidArgument>("the char tokenizer needs text; this one is empty");
  std::vector<bool> seen(kCodePoints);
  char32_t largest = 0;
  for (auto rest = text; !rest.empty();) {
    const auto point = take_code_point(rest);
    if (!point) not_utf8(text.size() - rest.size());
    seen[*point] = true;
    largest = std::max(largest, *point);
  }
  numbers_.assign(largest + 1, -1);
  for (char32_t point = 0; point <= largest; ++point) {
    if (!seen[point]) continue;
    numbers_[point] = static_cast<std::int32_t>(points_.size());
    points_.push_back(point);
  }
}

std::vector<std::int32_t> CharTokenizer::encode(std::string_view text) const {
  std::vector<std::int32_t> tokens;
  tokens.reserve(text.size());
  for (auto rest = text; !rest.empty();) {
    const auto offset = text.size() - rest.size();
    const auto point = take_code_point(rest);
    if (!point) not_utf8(offset);
    const auto number = *point < numbers_.size() ? numbers_[*point] : -1;
    if (number < 0) {
      fail<InvalidArgument>(
          "'{}' (U+{:04X}) at byte {} is not among the {} characters of the training text",
          text.substr(offset, text.size() - rest.size() - offset),
          static_cast<std::uint32_t>(*point), offset, points_.size());
    }
    tokens.push_back(number);
  }
  return tokens;
}

std::string CharTokenizer::decode(std::span<const std::int64_t> tokens) const {
  std::string text;
  text.reserve(tokens.size());
  for (const auto token : tokens) {
    check_token(token, vocab_size());
    append_utf8(text, points_[static_cast<std::size_t>(token)]);
  }
  return text;
}

std::string CharTokenizer::save() const {
  std::string text = "char:";
  for (const auto point : points_) append_utf8(text, point);
  return text;
}

std::unique_ptr<Tokenizer> Tokenizer::restore(std::string_view saved) {
  const auto colon = saved.find(':');
  const auto name = saved.substr(0, colon);
  const auto rest =
      colon == std::string_view::npos ? saved.substr(saved.size()) : saved.substr(colon + 1);
  if (name == "byte" && colon != std::string_view::npos && rest.empty()) {
    return std::make_unique<ByteTokenizer>();
  }
  if (name == "char" && !rest.empty() && !first_invalid_utf8(rest)) {
    auto tokenizer = std::make_unique<CharTokenizer>(rest);
    if (tokenizer->save() == saved) return tokenizer;  // sorted, and none twice
  }
  fail<Corrupt>(
      "this is no saved tokenizer: '{}'. Expected \"byte:\" or \"char:\" and its "
      "characters in order",
      saved.substr(0, 40));
}

std::unique_ptr<Tokenizer> make_tokenizer(std::string_view name, std::string_view text) {
  if (name == "char") return std::make_unique<CharTokenizer>(text);
  if (name == "byte") return std::make_unique<ByteTokenizer>();
  fail<InvalidArgument>("there is no tokenizer '{}'; choose char or byte", name);
}

}  // namespace weft::data
