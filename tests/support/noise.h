// Deterministic noise to test with: the same on every machine.
#pragma once

#include <cstdint>

namespace weft::tests {

// Evenly distributed in [-1, 1); a function of its arguments alone (splitmix64's finaliser:
// Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
inline float noise(std::int64_t stream, std::int64_t index) {
  auto x = static_cast<std::uint64_t>(stream) * 0x9e3779b97f4a7c15ull +
           static_cast<std::uint64_t>(index) + 0x632be59bd9b4e019ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  x ^= x >> 31;
  return static_cast<float>(static_cast<std::int32_t>(x >> 32)) * 0x1p-31f;
}

}  // namespace weft::tests
