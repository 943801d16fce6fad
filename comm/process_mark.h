// Which process made an object. What a fork() leaves in the child of a communicator is not one: its
// threads are gone, and its connections and shared memory are the parent's. Thread-safe.
#pragma once

#include <cstdint>

namespace weft::comm {

class ProcessMark {
 public:
  ProcessMark();
  // False in a child that was forked since. Costs one load.
  bool is_here() const { return generation_ == current(); }

 private:
  static std::uint32_t current();
  std::uint32_t generation_;
};

}  // namespace weft::comm
