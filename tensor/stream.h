// Queues of work on CUDA devices, the events between them, and what is current in a thread.
//
// Every operator queues its work on the current stream of its tensors' device and returns; reading
// values (item(), to_vector(), to(cpu)) waits. Work on one stream runs in order; across streams
// only where wait() says so. Each thread starts with the default stream of every device, which all
// threads share: threads that act as ranks on one device take one each (StreamGuard).
//
// Handles are values: copies are the same stream or event. A stream that nobody holds any more is
// kept and given to the next create(), so that memory bound to it stays of use. Errors: Unsupported
// where there is no device, InvalidArgument for an index out of range, for a Device that is not
// cuda, and for waiting on the host while the stream is captured into a graph.
#pragma once

#include <memory>
#include <vector>

#include "tensor/block_cache.h"
#include "tensor/storage.h"

namespace weft::tensor {

// Devices this process can use; 0 without a driver or a CUDA build. Never throws.
int cuda_device_count();
// The device, if it is one of cuda_device_count(), else the errors above; says `operation`.
void require_device(Device device, std::string_view operation);

class Event;

class Stream {
 public:
  static Stream of_default(Device device);  // the one all threads start with
  static Stream create(Device device);      // one of its own, which waits for no other
  static Stream current(Device device);     // of this thread

  Device device() const;
  void* handle() const;  // kernels::cuda::Stream
  QueueId id() const { return {device().index, handle()}; }
  void synchronize() const;              // waits until all that is queued is done
  bool is_idle() const;                  // whether it is
  void wait(const Event& event) const;   // what is queued from here on runs after it
  void wait(const Stream& other) const;  // ... after what is queued there now
  bool is_capturing() const;
  bool operator==(const Stream& other) const { return id() == other.id(); }

 private:
  struct State;
  explicit Stream(std::shared_ptr<const State> state) : state_(std::move(state)) {}
  std::shared_ptr<const State> state_;
};

class Event {
 public:
  enum class Timing : bool { no, yes };
  explicit Event(Timing timing = Timing::no) : timing_(timing) {}
  void record(const Stream& stream);  // behind what is queued there now; again and again
  bool is_recorded() const { return state_ != nullptr; }
  bool is_done() const;                       // also when it was never recorded
  void synchronize() const;                   // waits until done
  double ms_since(const Event& start) const;  // both timed and done; milliseconds
  void* handle() const;                       // nullptr when never recorded

 private:
  struct State;
  Timing timing_;
  std::shared_ptr<State> state_;
};

// Makes a stream the current one of its device in this thread, for the scope.
class StreamGuard {
 public:
  explicit StreamGuard(const Stream& stream);
  ~StreamGuard();
  StreamGuard(const StreamGuard&) = delete;
  StreamGuard& operator=(const StreamGuard&) = delete;

 private:
  Stream previous_;
};

// Which device the CUDA runtime works on in this thread, from now on.
void set_current_device(Device device);

// Makes a device the one that the CUDA runtime works on in this thread, for the scope. Nothing for
// the cpu.
class DeviceGuard {
 public:
  explicit DeviceGuard(Device device);
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int previous_ = -1;  // -1: nothing to put back
};

// Waits until everything queued on the device is done. Nothing for the cpu.
void synchronize(Device device);

}  // namespace weft::tensor
