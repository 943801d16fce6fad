// Calls that must run one after the other, on whatever streams they are queued. Thread-safe.
#pragma once

#include <mutex>

#include "kernels/cuda/runtime.h"

namespace weft::comm {

class StreamOrder {
 public:
  using Stream = kernels::cuda::Stream;
  explicit StreamOrder(int device) : device_(device), last_(device) {}

  // Runs queue(), which queues a call on `stream`, after the calls before it. Captured calls are
  // ordered by their graph.
  template <class Queue>
  void run(Stream stream, bool capturing, const Queue& queue) {
    const std::lock_guard lock(mutex_);
    const kernels::cuda::DeviceGuard guard(device_);
    if (!capturing && used_ && stream != stream_) last_.wait_on(stream);
    queue();
    if (capturing) return;
    last_.record(stream);
    stream_ = stream;
    used_ = true;
  }
  // Makes `stream` wait for the last call.
  void let_wait(Stream stream) {
    const std::lock_guard lock(mutex_);
    const kernels::cuda::DeviceGuard guard(device_);
    if (used_ && stream != stream_) last_.wait_on(stream);
  }

 private:
  int device_;
  std::mutex mutex_;
  kernels::cuda::Event last_;
  Stream stream_ = nullptr;
  bool used_ = false;
};

}  // namespace weft::comm
