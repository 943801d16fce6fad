// Streams: each is a thread with a queue, so that what a program forgot to wait for is really not
// there yet. WEFT_EMULATED_DELAY_US makes every piece of work start that many microseconds late.
#pragma once

#include <cuda_runtime_api.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

namespace weft::emulated {

enum class WorkKind { kernel, copy, fill, host, allocation, wait, record, graph };

struct Work {
  WorkKind kind;
  std::function<void()> run;
};

struct Capture;

struct Stream {
  Stream(int device_, bool blocking_) : device(device_), blocking(blocking_) {}

  const int device;
  const bool blocking;  // in order with the device's default stream

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Work> queue;
  std::uint64_t submitted = 0, completed = 0;
  bool started = false, closing = false;

  // While work is captured: where to, and the nodes that the next one comes after. Guarded by the
  // capture's mutex.
  std::shared_ptr<Capture> capture;
  std::vector<std::size_t> tips;
};
using StreamPointer = std::shared_ptr<Stream>;

// The stream of a handle: nullptr is the current device's default stream; none for one destroyed or
// never created.
StreamPointer stream_of(cudaStream_t handle);
StreamPointer default_stream(int device);

// Queues work on the stream, or adds it to the graph that is captured.
cudaError_t enqueue(cudaStream_t stream, Work work);
// The same, past any capture.
void submit(const StreamPointer& stream, Work work);
// The same, without what an earlier order demands (see cudaStreamNonBlocking).
void submit_plain(const StreamPointer& stream, Work work);
// Waits for everything that is queued now.
void drain(Stream& stream);
bool idle(Stream& stream);
void synchronize_all(int device);
// Whether this thread runs a function for cudaLaunchHostFunc, which must not call CUDA.
bool in_host_function();

}  // namespace weft::emulated
