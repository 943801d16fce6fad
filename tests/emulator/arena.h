// One device's memory: a range of addresses, first fit, guard zones around each allocation.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>

namespace weft::emulated {

class Arena {
 public:
  Arena(int device, std::size_t capacity);
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Aligned to 512 bytes; nullptr where the capacity does not suffice.
  void* allocate(std::size_t bytes);
  // False where the pointer is not the begin of an allocation. Damage to the guard zones is added
  // to `damage`.
  bool release(void* pointer, std::string& damage);

  bool contains(const void* address) const;
  // Lock-free: whether all bytes lie in live memory.
  bool holds(const void* address, std::size_t bytes) const;

  struct Allocation {
    std::byte* data;
    std::size_t bytes;
    std::size_t offset;  // in the file
  };
  // The live allocation around this address.
  std::optional<Allocation> find(const void* address) const;

  std::string check_guards() const;
  std::size_t capacity() const { return capacity_; }
  std::size_t free_bytes() const;
  int file() const { return file_; }

 private:
  std::string damage_to(std::size_t offset, std::size_t bytes) const;
  void mark(std::size_t offset, std::size_t bytes, bool live);

  const int device_;
  const std::size_t capacity_, reach_;
  int file_ = -1;
  std::byte* base_ = nullptr;
  std::atomic<bool>* granules_ = nullptr;  // live, for each kGranule bytes
  mutable std::mutex mutex_;
  std::map<std::size_t, std::size_t> live_;  // offset to bytes
  std::size_t used_ = 0;
};

}  // namespace weft::emulated
