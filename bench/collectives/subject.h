// One collective at one size: its buffers, their contents, and what must come out.
#pragma once

#include <cstdint>
#include <vector>

#include "bench/collectives/buffer.h"
#include "bench/collectives/kinds.h"

namespace weft::bench {

class Subject {
 public:
  // `size` is nccl-tests' size; it is rounded down to whole elements (for every rank, where a side
  // has a block a rank). `device`: on its memory; outlives this, like the others.
  Subject(const Options& options, Bytes size, Communicator& communicator,
          const DeviceCalls* device);

  Bytes size() const { return size_; }
  Elems count() const { return block_; }  // nccl-tests' count column: elements of one block
  const Kind& kind() const { return kind_; }
  const DeviceCalls* device() const { return device_; }

  void fill(bool in_place);  // this rank's pattern into the input, poison into the output
  void run(bool in_place) {
    if (device_ != nullptr) {
      start(in_place).wait();
    } else {
      kind_.run(communicator_, input(in_place), output(in_place), options_);
    }
  }
  Work start(bool in_place) {
    if (device_ != nullptr) {
      return kind_.queue(*device_, input(in_place), output(in_place), options_);
    }
    return kind_.start(communicator_, input(in_place), output(in_place), options_);
  }
  std::int64_t wrong(bool in_place) const;  // output elements that are not what they must be

 private:
  comm::ConstView input(bool in_place) const;
  comm::View output(bool in_place) const;
  double expected(std::int64_t index) const;

  const Options& options_;
  Communicator& communicator_;
  const DeviceCalls* device_;
  const Kind& kind_;
  Bytes size_;
  Elems block_;
  Buffer input_;
  Buffer output_;
};

}  // namespace weft::bench
