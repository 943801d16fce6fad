// A run of memory on one device, shared by the tensors that view it. 64-byte aligned.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "kernels/base/units.h"

namespace weft::tensor {

enum class DeviceType : std::uint8_t { cpu, cuda };
struct Device {
  DeviceType type = DeviceType::cpu;
  int index = 0;
  bool operator==(const Device&) const = default;
};
std::string to_string(Device device);

class Storage {
  struct Private {
    explicit Private() = default;
  };

 public:
  // Not cleared. Unsupported on cuda; IoError, with sizes, when memory is exhausted. Freed memory
  // is kept for the next request (tensor/cpu_allocator.h).
  static std::shared_ptr<Storage> allocate(Bytes bytes, Device device = {});
  // Memory of somebody else's (a bucket in symmetric memory, a mapped file); `owner` is kept as
  // long as the storage (empty: the caller sees to it). Need not be aligned to more than its
  // elements.
  static std::shared_ptr<Storage> borrow(void* data, Bytes bytes, std::shared_ptr<void> owner,
                                         Device device = {});
  explicit Storage(Private) {}  // allocate() and borrow() only
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  std::byte* data() const { return data_; }
  Bytes bytes() const { return bytes_; }
  Device device() const { return device_; }
  bool is_borrowed() const { return borrowed_; }

  // Tells whether elements changed since an earlier look. Writing in place (copy_, fill_) and
  // optimizers count up; who writes through data() calls mark_written() where a copy may be kept.
  std::uint64_t version() const { return version_.load(std::memory_order_relaxed); }
  void mark_written() { version_.fetch_add(1, std::memory_order_relaxed); }

 private:
  std::byte* data_ = nullptr;  // nullptr when empty
  Bytes bytes_;
  Device device_;
  std::shared_ptr<void> owner_;
  bool borrowed_ = false;
  std::atomic<std::uint64_t> version_{0};
};

}  // namespace weft::tensor
