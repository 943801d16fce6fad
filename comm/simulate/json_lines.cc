#include "comm/simulate/json_lines.h"

#include <cstddef>
#include <iterator>
#include <nlohmann/json.hpp>
#include <vector>

#include "kernels/base/error.h"

namespace weft::comm::simulate {

namespace {

// Reads the text and knows how far the parser has come.
struct Position {
  int line = 1;
  char last = 0;
};

class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, Position* position) : at_(at), position_(position) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    position_->last = *at_;
    if (*at_ == '\n') ++position_->line;
    ++at_;
    return *this;
  }
  CountingIterator operator++(int) {
    CountingIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const CountingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  Position* position_;
};

// Notes lines, finds keys given twice and depth. Stops the parser by returning false.
class Survey : public nlohmann::json_sax<nlohmann::json> {
 public:
  Survey(const Position& position, std::string name, int depth_max, JsonLines& lines)
      : position_(position), name_(std::move(name)), depth_max_(depth_max), lines_(lines) {}

  bool null() override { return value(); }
  bool boolean(bool) override { return value(); }
  bool number_integer(number_integer_t) override { return number(); }
  bool number_unsigned(number_unsigned_t) override { return number(); }
  bool number_float(number_float_t, const string_t&) override { return number(); }
  bool string(string_t&) override { return value(); }
  bool binary(binary_t&) override { return value(); }
  bool start_object(std::size_t) override { return open(false); }
  bool start_array(std::size_t) override { return open(true); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    Level& level = levels_.back();
    level.key = pointer_token(name);
    const std::string path = here();
    if (!lines_.emplace(path, position_.line).second) {
      fail<InvalidArgument>("{}, line {}: field {} is given a second time (first on line {})",
                            name_, position_.line, printable(path), lines_[path]);
    }
    return true;
  }

  bool parse_error(std::size_t, const std::string& token,
                   const nlohmann::json::exception& error) override {
    std::string text =
        error.what();  // "[json...] parse error at line 3, column 7: syntax error ..."
    if (const auto colon = text.find(": "); colon != std::string::npos) text.erase(0, colon + 2);
    // The line of the last token, not of the white space behind it.
    const std::string where = levels_.empty() ? "" : here();
    fail<InvalidArgument>("{}, line {}: this is no JSON{}{}: {}", name_, line(),
                          where.empty() ? "" : ", at field ", printable(where),
                          token.empty() ? "the text ends too early" : text);
  }

 private:
  struct Level {
    bool array = false;
    std::size_t index = 0;
    std::string key;
  };

  std::string here() const {
    std::string path;
    for (const Level& level : levels_) {
      path += '/';
      path += level.array ? std::to_string(level.index) : level.key;
    }
    return path;
  }
  // Numbers end where something else begins, and that has been read already.
  int line() const { return position_.line - (position_.last == '\n' ? 1 : 0); }

  void note(int line) {
    if (levels_.empty() || levels_.back().array) lines_.emplace(here(), line);
  }
  void pass() {
    if (!levels_.empty() && levels_.back().array) ++levels_.back().index;
  }
  bool value() {
    note(position_.line);
    pass();
    return true;
  }
  bool number() {
    note(line());
    pass();
    return true;
  }
  bool open(bool array) {
    note(position_.line);
    if (static_cast<int>(levels_.size()) >= depth_max_) {
      fail<InvalidArgument>("{}, line {}: field {} is nested deeper than {} levels", name_,
                            position_.line, printable(here()), depth_max_);
    }
    levels_.push_back({array, 0, {}});
    return true;
  }
  bool close() {
    levels_.pop_back();
    pass();
    return true;
  }

  const Position& position_;
  std::string name_;
  int depth_max_;
  JsonLines& lines_;
  std::vector<Level> levels_;
};

}  // namespace

std::string pointer_token(const std::string& name) {
  std::string token;
  for (const char c : name) token += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
  return token;
}

std::string printable(const std::string& text) {
  std::string shown;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto next = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : 0);
    if (byte < 0x20 || byte == 0x7f) {
      shown += fmt::format("\\u{:04x}", byte);
    } else if (byte == 0xc2 && next >= 0x80 && next < 0xa0) {  // UTF-8 of U+0080 to U+009F
      shown += fmt::format("\\u{:04x}", next);
      ++i;
    } else {
      shown += text[i];
    }
  }
  return shown;
}

nlohmann::json parse_with_lines(const std::string& text, const std::string& name, int depth_max,
                                JsonLines& lines) {
  Position position;
  Survey survey(position, name, depth_max, lines);
  const char* const begin = text.data();
  nlohmann::json::sax_parse(CountingIterator(begin, &position),
                            CountingIterator(begin + text.size(), &position), &survey);
  return nlohmann::json::parse(text);
}

}  // namespace weft::comm::simulate
