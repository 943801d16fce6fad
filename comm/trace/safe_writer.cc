#include "comm/trace/safe_writer.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace weft::comm::trace {

namespace {

// Digits of a number, from the right into a small buffer.
struct Digits {
  char text[24];
  std::size_t begin = sizeof text;

  explicit Digits(std::uint64_t number, bool negative = false) {
    do {
      text[--begin] = static_cast<char>('0' + number % 10);
      number /= 10;
    } while (number != 0);
    if (negative) text[--begin] = '-';
  }
  explicit Digits(std::int64_t number)
      : Digits(number < 0 ? ~static_cast<std::uint64_t>(number) + 1
                          : static_cast<std::uint64_t>(number),
               number < 0) {}
  std::string_view view() const { return {text + begin, sizeof text - begin}; }
};

}  // namespace

SafeWriter& SafeWriter::operator<<(std::string_view text) {
  while (!text.empty()) {
    if (used_ == size_) flush();
    const std::size_t part = std::min(text.size(), size_ - used_);
    std::memcpy(buffer_ + used_, text.data(), part);
    used_ += part;
    text.remove_prefix(part);
  }
  return *this;
}

SafeWriter& SafeWriter::operator<<(std::int64_t number) { return *this << Digits(number).view(); }
SafeWriter& SafeWriter::operator<<(std::uint64_t number) { return *this << Digits(number).view(); }

int SafeWriter::flush() {
  std::size_t done = 0;
  while (done < used_ && error_ == 0) {
    const ssize_t n = ::write(fd_, buffer_ + done, used_ - done);
    if (n >= 0) {
      done += static_cast<std::size_t>(n);
    } else if (errno != EINTR) {
      error_ = errno;
    }
  }
  used_ = 0;
  return error_;
}

SafeText& SafeText::operator<<(std::string_view text) {
  const std::size_t part = std::min(text.size(), size_ - 1 - used_);
  fits_ = fits_ && part == text.size();
  std::memcpy(buffer_ + used_, text.data(), part);
  used_ += part;
  buffer_[used_] = '\0';
  return *this;
}

SafeText& SafeText::operator<<(std::int64_t number) { return *this << Digits(number).view(); }

}  // namespace weft::comm::trace
