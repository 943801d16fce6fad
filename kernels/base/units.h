// Strong units. A count of elements and a count of bytes never convert into one another by
// accident, and a rank is not an index into anything else. All are signed 64-bit (ranks: int), so
// that differences and mistakes show as negatives.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>

namespace weft {

template <class Tag>
struct Quantity {
  std::int64_t value = 0;

  constexpr Quantity() = default;
  constexpr explicit Quantity(std::int64_t v) : value(v) {}
  constexpr std::size_t size() const { return static_cast<std::size_t>(value); }

  constexpr auto operator<=>(const Quantity&) const = default;
  constexpr Quantity& operator+=(Quantity other) {
    value += other.value;
    return *this;
  }
  constexpr Quantity& operator-=(Quantity other) {
    value -= other.value;
    return *this;
  }
  friend constexpr Quantity operator+(Quantity a, Quantity b) {
    return Quantity(a.value + b.value);
  }
  friend constexpr Quantity operator-(Quantity a, Quantity b) {
    return Quantity(a.value - b.value);
  }
  friend constexpr Quantity operator*(Quantity a, std::int64_t k) { return Quantity(a.value * k); }
  friend constexpr Quantity operator/(Quantity a, std::int64_t k) { return Quantity(a.value / k); }
};

using Elems = Quantity<struct ElemsTag>;
using Bytes = Quantity<struct BytesTag>;

inline namespace literals {
constexpr Bytes operator""_B(unsigned long long v) { return Bytes(static_cast<std::int64_t>(v)); }
constexpr Bytes operator""_KiB(unsigned long long v) {
  return Bytes(static_cast<std::int64_t>(v) << 10);
}
constexpr Bytes operator""_MiB(unsigned long long v) {
  return Bytes(static_cast<std::int64_t>(v) << 20);
}
}  // namespace literals

// A position in a communicator, 0 .. size-1. kNoRank where none applies.
struct Rank {
  int value = -1;
  constexpr Rank() = default;
  constexpr explicit Rank(int v) : value(v) {}
  constexpr auto operator<=>(const Rank&) const = default;
};
inline constexpr Rank kNoRank{-1};

}  // namespace weft
