// The segments that all ranks of a group have mapped, by number: how symmetric memory is recognised
// in a call, and found in the others' address spaces. Thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <utility>
#include <vector>

#include "comm/transport/memory/group.h"
#include "comm/transport/shm/segment.h"

namespace weft::comm::shm {

class SegmentTable final : public memory::AddressBook {
 public:
  explicit SegmentTable(int self) : self_(self) {}
  // The members' processes; before any segment is added.
  void set_processes(std::vector<std::int64_t> pids) { pids_ = std::move(pids); }

  // A new segment of `bytes`; mappings[m] is member m's. All members add the same segments in the
  // same order, which numbers them. Gives the number.
  std::uint16_t add(std::vector<Mapping> mappings, std::size_t bytes);
  // This member uses it no more: it is not recognised in calls any more. The mappings stay for the
  // other members until drop().
  void retire(std::uint16_t segment);
  std::vector<std::uint16_t> retired() const;
  void drop(std::uint16_t segment);

  memory::Posted post(const void* data, Bytes bytes) const override;
  std::byte* locate(int member, memory::Posted where, Bytes bytes) const override;
  bool reaches_all() const override { return false; }
  std::chrono::milliseconds patience() const override { return std::chrono::milliseconds(200); }
  void withdraw(memory::Posted where, int member) override;

 private:
  struct Entry {
    std::vector<Mapping> mappings;
    std::size_t bytes = 0;
    bool live = true;
    bool withdrawn = false;  // this member's pages are its own now
  };
  int self_;
  std::vector<std::int64_t> pids_;
  mutable std::shared_mutex mutex_;
  std::map<std::uint16_t, Entry> segments_;
  std::uint16_t next_ = 1;
};

}  // namespace weft::comm::shm
