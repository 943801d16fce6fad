// Members that address each other's device memory: their arenas, how they find each other's
// buffers, and the desk at which kernels and host tell each other what happened.
//
// Members are counted 0..size-1 in the order of their ranks. Thread-safe unless said otherwise.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <shared_mutex>
#include <vector>

#include "comm/transport/cuda_ipc/layout.h"
#include "comm/transport/cuda_ipc/memory.h"
#include "kernels/cuda/collective.h"
#include "kernels/cuda/runtime.h"

namespace weft::comm::cuda_ipc {

class Group {
 public:
  // exports: some members are other processes. Throws IoError where memory is short.
  Group(int device, int self, std::vector<int> ranks, bool exports);
  // Of a group whose kernels have ended: lets go of the others' memory, waits a short while until
  // they have let go of this member's, and frees it. What others still map stays allocated.
  ~Group();
  Group(const Group&) = delete;

  // What accept() of the others needs. Throws IoError where the system refuses to share it.
  const Invitation& invite();
  // Maps the others' arenas; by member.
  void accept(const std::vector<Invitation>& all);

  int self() const { return self_; }
  int size() const { return static_cast<int>(ranks_.size()); }
  int rank_of(int member) const { return ranks_[static_cast<std::size_t>(member)]; }
  int device() const { return device_; }
  bool in_one_process() const { return !exports_; }
  const ArenaLayout& layout() const { return layout_; }
  // After accept().
  const kernels::cuda::Party& party() const { return party_; }
  kernels::cuda::Desk& desk() const { return *desk_; }
  kernels::cuda::Stream stream() const { return stream_.get(); }  // for the group's own work

  // Where kernels of the others find a buffer of this member (kernels/cuda/collective.h).
  std::uint64_t post(const void* data, Bytes bytes) const;

  // Symmetric memory: all members add the same segments in the same order. Not for two threads.
  std::uint16_t add(std::vector<Mapping> mappings, Bytes bytes);
  void retire(std::uint16_t segment);
  std::vector<std::uint16_t> retired() const;
  // Gives up the others' parts of it; forget() this member's, once all have.
  void unmap_others(std::uint16_t segment);
  void forget(std::uint16_t segment);

 private:
  struct Segment {
    std::vector<Mapping> mappings;
    Bytes bytes;
    bool live = true;
  };
  void write_segment(std::uint16_t number, const std::vector<Mapping>& mappings);
  bool all_closed() const;

  int device_;
  int self_;
  std::vector<int> ranks_;
  bool exports_;
  ArenaLayout layout_;
  kernels::cuda::OwnedStream stream_;
  SharedMemory arena_;
  std::vector<Mapping> arenas_;
  kernels::cuda::PinnedMemory desk_memory_;
  kernels::cuda::Desk* desk_ = nullptr;
  std::shared_ptr<std::byte> ledger_;
  std::shared_ptr<std::byte> table_;
  kernels::cuda::Party party_{};
  mutable std::shared_mutex mutex_;
  std::map<std::uint16_t, Segment> segments_;
  std::uint16_t next_ = 1;
};

}  // namespace weft::comm::cuda_ipc
