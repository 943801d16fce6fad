// Memory that the ranks of one host have mapped from each other: Communicator::allocate_symmetric.
#pragma once

#include <memory>

#include "comm/communicator.h"
#include "comm/transport/shm/host.h"

namespace weft::comm {

// The segments of one communicator. What a rank no longer uses is not recognised in its calls any
// more, but stays mapped until all ranks have dropped it: then the next allocation lets it go.
class SymmetricHeap {
 public:
  explicit SymmetricHeap(std::shared_ptr<shm::Host> host) : host_(std::move(host)) {}
  SymmetricMemory allocate(Communicator& communicator, Bytes bytes);

 private:
  std::shared_ptr<shm::Host> host_;
};

// Zeroed pages that nobody else maps.
SymmetricMemory allocate_pages(Bytes bytes);

}  // namespace weft::comm
