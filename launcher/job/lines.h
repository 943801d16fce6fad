// Cuts what a rank writes into whole lines. Pure: bytes in, lines out.
//
// A carriage return that is not part of a line's end starts the line over, as it does on a
// terminal: "10%\r20%\n" is the line "20%". What it shows meanwhile is visible(). A line longer
// than kLineBytesMax is cut there, never within a UTF-8 character.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace weft::launcher {

inline constexpr std::size_t kLineBytesMax = 65536;

class LineSplitter {
 public:
  using Sink = std::function<void(std::string_view line)>;  // without its end

  void feed(std::string_view bytes, const Sink& sink);
  void finish(const Sink& sink);  // the last line, if it has no end

  // The unfinished line as a terminal would show it, if the program keeps rewriting it.
  std::string_view visible() const { return rewriting_ ? std::string_view(line_) : ""; }

 private:
  void append(std::string_view text, const Sink& sink);

  std::string line_;
  bool returned_ = false;   // the last byte was a carriage return
  bool rewriting_ = false;  // this line has been started over, or is about to be
};

}  // namespace weft::launcher
