// Shared by the tests of CUDA kernels: memory on a device with what is around it watched.
#pragma once

#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "kernels/cuda/runtime.h"
#include "tests/gpu/device_test.h"
#include "tests/kernels/values.h"

namespace weft::kernels {

using cuda::DeviceTest;

// A copy of `count` values on the device, `skip` elements past a boundary of 256 bytes. Elements
// around them hold a mark.
template <class T>
class DeviceBuffer {
 public:
  explicit DeviceBuffer(std::size_t count, std::size_t skip = 0) : count_(count), skip_(skip) {
    const std::vector<unsigned char> marks(bytes(), kMark);
    data_ = static_cast<unsigned char*>(cuda::allocate(size()));
    cuda::copy_to_device(data_, marks.data(), size());
  }
  explicit DeviceBuffer(const Buffer<T>& host, std::size_t skip = 0)
      : DeviceBuffer(host.size(), skip) {
    if (count_ > 0) {
      cuda::copy_to_device(data(), host.data(),
                           Bytes(static_cast<std::int64_t>(count_ * sizeof(T))));
    }
  }
  ~DeviceBuffer() { cuda::release(data_); }
  DeviceBuffer(DeviceBuffer&& other) noexcept
      : count_(other.count_), skip_(other.skip_), data_(std::exchange(other.data_, nullptr)) {}
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  T* data() { return reinterpret_cast<T*>(data_ + kGuard) + skip_; }

  // Waits for the device's default stream. Fails the test where an element around was written.
  Buffer<T> host() const {
    std::vector<unsigned char> all(bytes());
    cuda::copy_to_host(all.data(), data_, size());
    const std::size_t begin = kGuard + skip_ * sizeof(T), end = begin + count_ * sizeof(T);
    for (std::size_t i = 0; i < all.size(); ++i) {
      if ((i < begin || i >= end) && all[i] != kMark) {
        ADD_FAILURE() << "byte " << i << " was written; the buffer is " << begin << " to " << end;
        break;
      }
    }
    Buffer<T> result(count_);
    std::memcpy(result.data(), all.data() + begin, count_ * sizeof(T));
    return result;
  }

 private:
  static constexpr std::size_t kGuard = 256;
  static constexpr unsigned char kMark = 0xa5;

  std::size_t bytes() const { return 2 * kGuard + (skip_ + count_) * sizeof(T); }
  Bytes size() const { return Bytes(static_cast<std::int64_t>(bytes())); }

  std::size_t count_, skip_;
  unsigned char* data_ = nullptr;
};

// One value on the device.
template <class T>
class DeviceValue {
 public:
  explicit DeviceValue(const T& value) : data_(static_cast<T*>(cuda::allocate(kBytes))) {
    set(value);
  }
  ~DeviceValue() { cuda::release(data_); }
  DeviceValue(const DeviceValue&) = delete;
  DeviceValue& operator=(const DeviceValue&) = delete;

  T* data() { return data_; }
  void set(const T& value) { cuda::copy_to_device(data_, &value, kBytes); }
  T get() const {
    T value;
    cuda::copy_to_host(&value, data_, kBytes);
    return value;
  }

 private:
  static constexpr Bytes kBytes{static_cast<std::int64_t>(sizeof(T))};
  T* data_;
};

// Equal to the bit, or both NaN.
template <class T>
void expect_same(const Buffer<T>& got, const Buffer<T>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_TRUE(same(got.get(i), want.get(i)))
        << "element " << i << " of " << got.size() << " is " << as_double(got.get(i))
        << ", expected " << as_double(want.get(i));
  }
}

inline Elems elems(std::size_t count) { return Elems(static_cast<std::int64_t>(count)); }

}  // namespace weft::kernels
