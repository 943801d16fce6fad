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
class Stream;  // tensor/stream.h

class Storage {
  struct Private {
    explicit Private() = default;
  };

 public:
  // Not cleared. IoError, with sizes, when memory is exhausted. Freed memory is kept for the next
  // request (tensor/cpu_allocator.h, tensor/cuda_allocator.h: on a CUDA device it belongs to the
  // stream that is current now). Unsupported on cuda where there is no device, InvalidArgument for
  // one that is not there.
  static std::shared_ptr<Storage> allocate(Bytes bytes, Device device = {});
  // On the cpu, page-locked: what asynchronous copies to and from CUDA devices need.
  static std::shared_ptr<Storage> allocate_pinned(Bytes bytes);
  // Memory of somebody else's (a bucket in symmetric memory, a mapped file); `owner` is kept as
  // long as the storage (empty: the caller sees to it). Need not be aligned to more than its
  // elements. InvalidArgument when `device` is cuda and the memory is not that device's.
  static std::shared_ptr<Storage> borrow(void* data, Bytes bytes, std::shared_ptr<void> owner,
                                         Device device = {});
  explicit Storage(Private) {}  // allocate() and borrow() only
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  std::byte* data() const { return data_; }
  Bytes bytes() const { return bytes_; }
  Device device() const { return device_; }
  bool is_borrowed() const { return owner_kind_ == Owner::borrowed; }
  bool is_pinned() const { return owner_kind_ == Owner::pinned; }
  // Borrowed memory of the host is elsewhere from now on, as many bytes; nullptr: nowhere, and a
  // tensor that is asked for its elements says so. For memory that comes and goes under tensors
  // that stay (parallel::Zero).
  void move_to(void* data);
  // What is queued on `stream` now uses this memory: freed before that is done, it is not given out
  // again until it is. Needed for streams other than the one it was allocated on. Nothing to do for
  // borrowed memory and for pageable memory of the host.
  void record_stream(const Stream& stream) const;

  // Tells whether elements changed since an earlier look. Writing in place (copy_, fill_) and
  // optimizers count up; who writes through data() calls mark_written() where a copy may be kept.
  std::uint64_t version() const { return version_.load(std::memory_order_relaxed); }
  void mark_written() { version_.fetch_add(1, std::memory_order_relaxed); }

 private:
  enum class Owner : std::uint8_t { cpu, pinned, cuda, borrowed };
  std::byte* data_ = nullptr;  // nullptr when empty
  Bytes bytes_;
  Device device_;
  std::shared_ptr<void> owner_;
  Owner owner_kind_ = Owner::cpu;
  std::atomic<std::uint64_t> version_{0};
};

}  // namespace weft::tensor
