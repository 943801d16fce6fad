#include "launcher/job/lines.h"

#include <algorithm>

namespace weft::launcher {
namespace {

// How many bytes of text[0, size) to keep so that no character is cut in two; `size` itself if it
// is not UTF-8 anyway.
std::size_t whole_characters(std::string_view text, std::size_t size) {
  if (size >= text.size()) return size;
  std::size_t cut = size;
  for (int back = 0; back < 4 && cut > 0; ++back, --cut) {
    if ((static_cast<unsigned char>(text[cut]) & 0xc0u) != 0x80u) return cut;
  }
  return size;
}

}  // namespace

void LineSplitter::append(std::string_view text, const Sink& sink) {
  if (text.empty()) return;
  if (returned_) {
    line_.clear();
    returned_ = false;
  }
  line_ += text;
  std::size_t begin = 0;
  while (line_.size() - begin > kLineBytesMax) {
    const std::string_view rest = std::string_view(line_).substr(begin);
    const std::size_t size = whole_characters(rest, kLineBytesMax);
    sink(rest.substr(0, size));
    begin += size;
  }
  line_.erase(0, begin);
}

void LineSplitter::feed(std::string_view bytes, const Sink& sink) {
  while (!bytes.empty()) {
    const std::string_view line = bytes.substr(0, bytes.find('\n'));
    const auto end = std::min(line.find('\r'), line.size());
    append(bytes.substr(0, end), sink);
    if (end == bytes.size()) return;
    if (bytes[end] == '\n') {
      sink(line_);
      line_.clear();
      returned_ = rewriting_ = false;
    } else {
      returned_ = rewriting_ = true;
    }
    bytes.remove_prefix(end + 1);
  }
}

void LineSplitter::finish(const Sink& sink) {
  if (!line_.empty()) sink(line_);
  line_.clear();
  returned_ = rewriting_ = false;
}

}  // namespace weft::launcher
