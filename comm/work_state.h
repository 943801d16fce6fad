// What handles on an asynchronous operation share.
#pragma once

#include <functional>
#include <memory>

#include "comm/communicator.h"
#include "comm/execute/operation.h"

namespace weft::comm {

struct Work::State {
  std::shared_ptr<Completion> completion;
  std::function<void(kernels::cuda::Stream)> order;  // of operations on CUDA memory
};

}  // namespace weft::comm
