// One collective at one size: its buffers, their contents, and what must come out.
#pragma once

#include <cstdint>
#include <vector>

#include "bench/collectives/kinds.h"

namespace weft::bench {

class Subject {
 public:
  // `size` is nccl-tests' size; it is rounded down to whole elements (for every rank, where a side
  // has a block a rank).
  Subject(const Options& options, Bytes size, Communicator& communicator);

  Bytes size() const { return size_; }
  Elems count() const { return block_; }  // nccl-tests' count column: elements of one block
  const Kind& kind() const { return kind_; }

  void fill(bool in_place);  // this rank's pattern into the input, poison into the output
  void run(bool in_place) { kind_.run(communicator_, input(in_place), output(in_place), options_); }
  Work start(bool in_place) {
    return kind_.start(communicator_, input(in_place), output(in_place), options_);
  }
  std::int64_t wrong(bool in_place) const;  // output elements that are not what they must be

 private:
  comm::ConstView input(bool in_place) const;
  comm::View output(bool in_place) const;
  double expected(std::int64_t index) const;

  const Options& options_;
  Communicator& communicator_;
  const Kind& kind_;
  Bytes size_;
  Elems block_;
  // Of one side: ordinary memory, or symmetric.
  class Side {
   public:
    void allocate(std::size_t bytes, bool registered, Communicator& communicator);
    std::uint8_t* data() const { return data_; }
    std::size_t size() const { return size_; }

   private:
    std::vector<std::uint8_t> ordinary_;
    comm::SymmetricMemory symmetric_;
    std::uint8_t* data_ = nullptr;
    std::size_t size_ = 0;
  };
  Side input_;
  Side output_;
};

}  // namespace weft::bench
