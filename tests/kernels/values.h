// Shared by the tests of kernels: awkward values, buffers at odd addresses, every instruction set.
#pragma once

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/base/dtype.h"

namespace weft::kernels {

// Runs `body` with each of the instruction sets that this machine has and the kernels are built
// for.
template <class Body>
void for_each_target(const Body& body) {
#if HWY_ARCH_X86
  const std::int64_t better_than_avx2 = HWY_AVX2 - 1;
  const std::int64_t disabled[] = {0, better_than_avx2, better_than_avx2 | HWY_AVX2};
#else
  const std::int64_t disabled[] = {0};
#endif
  for (const std::int64_t mask : disabled) {
    hwy::DisableTargets(mask);
    SCOPED_TRACE("Highway targets disabled: " + std::to_string(mask));
    body();
    if (testing::Test::HasFatalFailure()) break;
  }
  hwy::DisableTargets(0);
}

template <class T>
double as_double(T value) {
  if constexpr (sizeof(T) == 2 && !std::is_integral_v<T>) {
    return static_cast<double>(static_cast<float>(value));
  } else {
    return static_cast<double>(value);
  }
}

template <class T>
T from_double(double value) {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(static_cast<std::int64_t>(value));
  } else if constexpr (sizeof(T) == 2) {
    return T(static_cast<float>(value));
  } else {
    return static_cast<T>(value);
  }
}

// Equal bits, or both NaN.
template <class T>
bool same(T a, T b) {
  if constexpr (!std::is_integral_v<T>) {
    if (std::isnan(as_double(a)) && std::isnan(as_double(b))) return true;
  }
  return std::memcmp(&a, &b, sizeof a) == 0;
}

// A run of `count` values that begins `misalignment` bytes past an aligned address; bytes around it
// are watched.
template <class T>
class Buffer {
 public:
  explicit Buffer(std::size_t count, std::size_t misalignment = 0)
      : count_(count),
        start_(kGuard + misalignment),
        bytes_(count * sizeof(T) + 3 * kGuard, kMark) {}

  void* data() { return bytes_.data() + start_; }
  const void* data() const { return bytes_.data() + start_; }
  std::size_t size() const { return count_; }
  T get(std::size_t i) const {
    T value;
    std::memcpy(&value, bytes_.data() + start_ + i * sizeof(T), sizeof value);
    return value;
  }
  void set(std::size_t i, T value) {
    std::memcpy(bytes_.data() + start_ + i * sizeof(T), &value, sizeof value);
  }
  bool guards_are_whole() const {
    for (std::size_t i = 0; i < bytes_.size(); ++i) {
      const bool inside = i >= start_ && i < start_ + count_ * sizeof(T);
      if (!inside && bytes_[i] != kMark) return false;
    }
    return true;
  }

 private:
  static constexpr std::size_t kGuard = 64;
  static constexpr unsigned char kMark = 0xa5;
  std::size_t count_, start_;
  std::vector<unsigned char> bytes_;
};

// Mostly ordinary numbers; now and then a zero of either sign, an infinity, a NaN, a subnormal or
// the ends of the range.
template <class T>
T awkward_value(std::mt19937_64& random) {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(random());
  } else {
    const std::uint64_t kind = random() % 40;
    const double ordinary = std::ldexp(static_cast<double>(random() >> 11), -50) - 4.0;
    if (kind > 8) return from_double<T>(ordinary);
    const double infinity = std::numeric_limits<double>::infinity();
    const double special[] = {0.0,   -0.0,    infinity, -infinity, std::nan(""),
                              3e-40, -6.1e-6, 65519.0,  3.3e38};
    return from_double<T>(special[kind]);
  }
}

template <class T>
Buffer<T> awkward_buffer(std::size_t count, std::size_t misalignment, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Buffer<T> buffer(count, misalignment);
  for (std::size_t i = 0; i < count; ++i) buffer.set(i, awkward_value<T>(random));
  return buffer;
}

template <class T>
Buffer<T> ordinary_buffer(std::size_t count, std::uint64_t seed, double low = -2.0,
                          double high = 2.0) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> values(low, high);
  Buffer<T> buffer(count);
  for (std::size_t i = 0; i < count; ++i) buffer.set(i, from_double<T>(values(random)));
  return buffer;
}

}  // namespace weft::kernels
