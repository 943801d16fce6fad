// Little-endian integers and counted strings in byte vectors: the vocabulary of docs/protocol.md.
#pragma once

#include <array>
#include <concepts>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "kernels/base/error.h"

namespace weft::comm {

class ByteWriter {
 public:
  template <std::integral T>
  void integer(T value) {
    const auto bits = static_cast<std::make_unsigned_t<T>>(value);
    std::array<std::uint8_t, sizeof(T)> raw;
    for (std::size_t i = 0; i < sizeof(T); ++i) {
      raw[i] = static_cast<std::uint8_t>((std::uint64_t{bits} >> (8 * i)) & 0xffu);
    }
    bytes(raw);
  }
  void bytes(std::span<const std::uint8_t> data);
  // A 32-bit length, then the characters; cut at `max` bytes.
  void text(std::string_view text, std::size_t max) {
    text = text.substr(0, max);
    integer(static_cast<std::uint32_t>(text.size()));
    characters(text);
  }
  void characters(std::string_view text) {
    bytes({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
  }
  void zeros(std::size_t count) { out_.resize(out_.size() + count); }
  std::size_t size() const { return out_.size(); }
  std::vector<std::uint8_t> take() { return std::move(out_); }

 private:
  std::vector<std::uint8_t> out_;
};

// Throws Corrupt when more is asked for than is there.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::uint8_t> in) : in_(in) {}
  template <std::integral T>
  T integer() {
    const auto raw = bytes(sizeof(T));
    std::uint64_t bits = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i) bits |= std::uint64_t{raw[i]} << (8 * i);
    return static_cast<T>(static_cast<std::make_unsigned_t<T>>(bits));
  }
  std::span<const std::uint8_t> bytes(std::size_t count) {
    if (count > in_.size()) {
      fail<Corrupt>("a frame ends {} bytes too early", count - in_.size());
    }
    const auto taken = in_.first(count);
    in_ = in_.subspan(count);
    return taken;
  }
  std::string text() {
    const auto raw = bytes(integer<std::uint32_t>());
    return std::string(raw.begin(), raw.end());
  }
  std::span<const std::uint8_t> rest() { return bytes(in_.size()); }
  void expect_end() const {
    if (!in_.empty()) fail<Corrupt>("a frame has {} bytes too many", in_.size());
  }

 private:
  std::span<const std::uint8_t> in_;
};

}  // namespace weft::comm
