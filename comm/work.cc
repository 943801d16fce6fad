#include <utility>

#include "comm/communicator.h"
#include "comm/work_state.h"

namespace weft::comm {

void Work::wait() const {
  if (state_) state_->completion->wait();
}

void Work::wait_on(kernels::cuda::Stream stream) const {
  if (state_ && state_->order) {
    state_->order(stream);
  } else {
    wait();
  }
}

bool Work::test() const { return !state_ || state_->completion->done(); }

void Work::then(std::function<void(std::exception_ptr)> callback) const {
  if (state_) {
    state_->completion->then(std::move(callback));
  } else {
    callback(nullptr);
  }
}

std::chrono::nanoseconds Work::duration() const {
  return state_ ? state_->completion->duration() : std::chrono::nanoseconds(0);
}

}  // namespace weft::comm
