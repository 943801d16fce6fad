// Writes text into a file with nothing but write(2): for signal handlers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace weft::comm::trace {

class SafeWriter {
 public:
  // The buffer stays the caller's.
  SafeWriter(int fd, char* buffer, std::size_t size) : fd_(fd), buffer_(buffer), size_(size) {}

  SafeWriter& operator<<(std::string_view text);
  SafeWriter& operator<<(std::int64_t number);
  SafeWriter& operator<<(std::uint64_t number);
  SafeWriter& operator<<(int number) { return *this << std::int64_t{number}; }
  SafeWriter& operator<<(std::uint32_t number) { return *this << std::uint64_t{number}; }

  // Empties the buffer. 0, or the errno of the first write that failed.
  int flush();

 private:
  int fd_;
  char* buffer_;
  std::size_t size_;
  std::size_t used_ = 0;
  int error_ = 0;
};

// A path or a line, put together in place; what does not fit is cut off and `fits` says so.
class SafeText {
 public:
  SafeText(char* buffer, std::size_t size) : buffer_(buffer), size_(size) { buffer_[0] = '\0'; }
  SafeText& operator<<(std::string_view text);
  SafeText& operator<<(std::int64_t number);
  const char* c_str() const { return buffer_; }
  std::string_view view() const { return {buffer_, used_}; }
  bool fits() const { return fits_; }

 private:
  char* buffer_;
  std::size_t size_;
  std::size_t used_ = 0;
  bool fits_ = true;
};

}  // namespace weft::comm::trace
