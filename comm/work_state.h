// What handles on an asynchronous operation share.
#pragma once

#include <memory>

#include "comm/communicator.h"
#include "comm/execute/operation.h"

namespace weft::comm {

struct Work::State {
  std::shared_ptr<Completion> completion;
};

}  // namespace weft::comm
