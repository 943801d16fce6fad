// Host values on a device for a test: at any alignment, with memory around them that must stay as
// it was.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/base/dtype.h"
#include "kernels/cuda/runtime.h"
#include "tests/kernels/values.h"

namespace weft::kernels {

template <class T>
class DeviceArray {
 public:
  // The first value lies `skew` elements past an address of 256 bytes' alignment.
  explicit DeviceArray(const std::vector<T>& values, std::size_t skew = 0)
      : count_(values.size()), start_(kGuard / sizeof(T) + skew) {
    std::vector<unsigned char> bytes(bytes_all(), kMark);
    if (!values.empty()) {
      std::memcpy(bytes.data() + start_ * sizeof(T), values.data(), count_ * sizeof(T));
    }
    memory_ = cuda::allocate(Bytes(static_cast<std::int64_t>(bytes.size())));
    cuda::copy_to_device(memory_, bytes.data(), Bytes(static_cast<std::int64_t>(bytes.size())));
  }
  // `count` elements of a pattern that no result has.
  explicit DeviceArray(std::size_t count, std::size_t skew = 0)
      : DeviceArray(patterned(count), skew) {}
  ~DeviceArray() { cuda::release(memory_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return static_cast<T*>(memory_) + start_; }
  std::size_t size() const { return count_; }

  // Waits for the default stream, and checks that nothing around the values was written.
  std::vector<T> read() const {
    std::vector<unsigned char> bytes(bytes_all());
    cuda::copy_to_host(bytes.data(), memory_, Bytes(static_cast<std::int64_t>(bytes.size())));
    std::vector<T> values(count_);
    const std::size_t first = start_ * sizeof(T), last = first + count_ * sizeof(T);
    if (count_ > 0) std::memcpy(values.data(), bytes.data() + first, count_ * sizeof(T));
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      if ((i < first || i >= last) && bytes[i] != kMark) {
        ADD_FAILURE() << "byte " << static_cast<std::int64_t>(i) - static_cast<std::int64_t>(first)
                      << " of an array of " << count_ * sizeof(T) << " was written";
        break;
      }
    }
    return values;
  }

 private:
  static constexpr std::size_t kGuard = 256;
  static constexpr unsigned char kMark = 0xa5;

  static std::vector<T> patterned(std::size_t count) {
    std::vector<T> values(count);
    if (count > 0) std::memset(static_cast<void*>(values.data()), 0x5b, count * sizeof(T));
    return values;
  }
  std::size_t bytes_all() const { return (start_ + count_) * sizeof(T) + kGuard; }

  std::size_t count_, start_;
  void* memory_ = nullptr;
};

// What rounding differences between host and device may amount to, per size of the values: one
// rounding of a half, a few of f32 or f64.
template <class T>
constexpr double rounding() {
  if constexpr (std::is_same_v<T, BFloat16>) return 0x1.0p-7;
  if constexpr (std::is_same_v<T, Half>) return 0x1.0p-10;
  if constexpr (std::is_same_v<T, float>) return 0x1.0p-20;
  if constexpr (std::is_same_v<T, double>) return 0x1.0p-47;
  return 0.0;
}

// |got - want| <= tolerance (|want| + scale), NaN where NaN; integers equal.
template <class T>
void expect_close(const std::vector<T>& got, const std::vector<T>& want, const std::string& what,
                  double tolerance = rounding<T>(), double scale = 1.0) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (same(got[i], want[i])) continue;
    if constexpr (!std::is_integral_v<T>) {
      const double a = as_double(got[i]), b = as_double(want[i]);
      if (a == b || std::abs(a - b) <= tolerance * (std::abs(b) + scale)) continue;
    }
    FAIL() << what << ", element " << i << " of " << got.size() << ": " << as_double(got[i])
           << " on the device, " << as_double(want[i]) << " on the CPU";
  }
}

template <class T>
std::vector<T> ordinary(std::size_t count, std::uint64_t seed, double low = -2.0,
                        double high = 2.0) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> values(low, high);
  std::vector<T> result(count);
  for (T& value : result) value = from_double<T>(values(random));
  return result;
}

template <class T>
std::vector<T> awkward(std::size_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<T> result(count);
  for (T& value : result) value = awkward_value<T>(random);
  return result;
}

// Calls body.operator()<T>() for each type.
template <class Body>
void for_all_types(const Body& body) {
  for (int i = 0; i < kDTypeCount; ++i) {
    SCOPED_TRACE("dtype " + std::string(name_of(static_cast<DType>(i))));
    dispatch(static_cast<DType>(i), body);
    if (testing::Test::HasFatalFailure()) return;
  }
}

template <class Body>
void for_floating_types(const Body& body) {
  for_all_types([&]<class T>() {
    if constexpr (!std::is_integral_v<T>) body.template operator()<T>();
  });
}

// Skips where there is no device.
class DeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    if (cuda::device_count() == 0) GTEST_SKIP() << "no GPU: " << cuda::reason_for_none();
  }
};

}  // namespace weft::kernels
