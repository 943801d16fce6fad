// How the ranks of one host come to share memory: each makes its area and says where it is, then
// each maps all the others'. What is said travels by means of the caller (the store).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "comm/transport/memory/group.h"
#include "comm/transport/shm/segment.h"
#include "comm/transport/shm/segment_table.h"

namespace weft::comm::shm {

// What a rank tells the others.
struct Invitation {
  Handle area;
  Handle bell;  // the writing end of a pipe that wakes it
  std::uint64_t bytes = 0;
  std::uint64_t nonce = 0;
};

class Host {
 public:
  // `ranks`: of this host, ascending; `self`: index of this one. Throws IoError.
  Host(std::vector<int> ranks, int self, int lanes);

  Invitation invitation() const;
  // Maps what the others (by index) have made; throws IoError.
  void accept(const std::vector<Invitation>& others);

  // After accept().
  std::shared_ptr<const memory::Group> group() const { return group_; }
  std::shared_ptr<SegmentTable> segments() const { return segments_; }
  int bell_fd() const { return bell_read_.get(); }  // readable when this rank is rung

 private:
  std::vector<int> ranks_;
  int self_;
  memory::AreaLayout layout_;
  std::uint64_t nonce_;
  Segment area_;
  FileDescriptor bell_read_;
  FileDescriptor bell_write_;
  std::vector<FileDescriptor> bells_;
  std::shared_ptr<SegmentTable> segments_;
  std::shared_ptr<const memory::Group> group_;
};

// The whole mesh of ranks that are all on this host.
std::unique_ptr<Mesh> make_mesh(std::shared_ptr<Host> host, int size, int lanes);
// Host peers over shared memory, the rest over `others`, which sleeps for both.
std::unique_ptr<Mesh> make_mixed_mesh(std::shared_ptr<Host> host, std::unique_ptr<Mesh> others);

}  // namespace weft::comm::shm
