// A run of memory on one device, shared by the tensors that view it. 64-byte aligned.
#pragma once

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
 public:
  static std::shared_ptr<Storage> allocate(Bytes bytes, Device device = {});
  // Memory of somebody else's (a bucket in symmetric memory, a mapped file); `owner` is kept as
  // long as the storage.
  static std::shared_ptr<Storage> borrow(void* data, Bytes bytes, std::shared_ptr<void> owner,
                                         Device device = {});
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  std::byte* data() const { return data_; }
  Bytes bytes() const { return bytes_; }
  Device device() const { return device_; }

 private:
  Storage() = default;
  std::byte* data_ = nullptr;
  Bytes bytes_;
  Device device_;
  std::shared_ptr<void> owner_;  // empty: data_ is ours
};

}  // namespace weft::tensor
