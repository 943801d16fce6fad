#include "tests/emulator/stream.h"

#include <chrono>
#include <map>
#include <thread>

#include "tests/emulator/capture.h"
#include "tests/emulator/devices.h"
#include "tests/emulator/failure.h"

namespace weft::emulated {
namespace {

constinit thread_local bool calling_host = false;

struct Streams {
  std::mutex mutex;
  std::map<Stream*, StreamPointer> made;
  std::map<int, StreamPointer> of_default;
};
Streams& streams() {
  static auto* const all = new Streams;  // workers outlive every other static
  return *all;
}

void delay() {
  static const auto us = std::chrono::microseconds(setting("WEFT_EMULATED_DELAY_US", 0, 0));
  if (us.count() == 0) return;
  std::mutex mutex;
  std::condition_variable never;
  std::unique_lock lock(mutex);
  never.wait_for(lock, us, [] { return false; });
}

void work_on(const StreamPointer& stream) {
  std::unique_lock lock(stream->mutex);
  for (;;) {
    stream->changed.wait(lock, [&] { return !stream->queue.empty() || stream->closing; });
    if (stream->queue.empty()) return;
    Work work = std::move(stream->queue.front());
    stream->queue.pop_front();
    lock.unlock();
    delay();
    // After a failed kernel nothing runs any more, but nobody waits in vain.
    const bool waits = work.kind == WorkKind::record || work.kind == WorkKind::wait;
    if (kept() == cudaSuccess || waits) work.run();
    work.run = nullptr;
    lock.lock();
    ++stream->completed;
    stream->changed.notify_all();
  }
}

// What is queued on the default stream comes after everything queued on blocking streams of the
// device, and the other way round.
std::vector<std::pair<StreamPointer, std::uint64_t>> what_comes_before(const Stream& stream) {
  std::vector<std::pair<StreamPointer, std::uint64_t>> before;
  if (!stream.blocking) return before;
  const auto legacy = default_stream(stream.device);
  const auto add = [&](const StreamPointer& other) {
    const std::lock_guard lock(other->mutex);
    if (other->completed < other->submitted) before.emplace_back(other, other->submitted);
  };
  if (legacy.get() != &stream) {
    add(legacy);
    return before;
  }
  std::vector<StreamPointer> others;
  {
    const std::lock_guard lock(streams().mutex);
    for (const auto& [handle, other] : streams().made) {
      if (other->device == stream.device && other->blocking) others.push_back(other);
    }
  }
  for (const auto& other : others) add(other);
  return before;
}

void wait_until(Stream& stream, std::uint64_t number) {
  std::unique_lock lock(stream.mutex);
  stream.changed.wait(lock, [&] { return stream.completed >= number; });
}

void call_host(cudaHostFn_t function, void* data) {
  calling_host = true;
  function(data);
  calling_host = false;
}

cudaError_t create(cudaStream_t* handle, unsigned flags) {
  if (const auto error = usable(); error != cudaSuccess) return say(error);
  if (handle == nullptr || flags > cudaStreamNonBlocking) return say(cudaErrorInvalidValue);
  auto stream = std::make_shared<Stream>(current_device(), flags == cudaStreamDefault);
  *handle = stream.get();
  const std::lock_guard lock(streams().mutex);
  streams().made.emplace(stream.get(), std::move(stream));
  return cudaSuccess;
}

}  // namespace

bool in_host_function() { return calling_host; }

StreamPointer default_stream(int device) {
  const std::lock_guard lock(streams().mutex);
  auto& stream = streams().of_default[device];
  if (!stream) stream = std::make_shared<Stream>(device, true);
  return stream;
}

StreamPointer stream_of(cudaStream_t handle) {
  if (handle == nullptr) return default_stream(current_device());
  const std::lock_guard lock(streams().mutex);
  const auto found = streams().made.find(handle);
  return found == streams().made.end() ? nullptr : found->second;
}

void submit(const StreamPointer& stream, Work work) {
  if (auto before = what_comes_before(*stream); !before.empty()) {
    submit_plain(stream, {WorkKind::wait, [before = std::move(before)] {
                            for (const auto& [other, number] : before) wait_until(*other, number);
                          }});
  }
  submit_plain(stream, std::move(work));
}

void submit_plain(const StreamPointer& stream, Work work) {
  const std::lock_guard lock(stream->mutex);
  stream->queue.push_back(std::move(work));
  ++stream->submitted;
  stream->changed.notify_all();
  if (!stream->started) {
    stream->started = true;
    std::thread(work_on, stream).detach();
  }
}

cudaError_t enqueue(cudaStream_t handle, Work work) {
  if (const auto error = usable(); error != cudaSuccess) return say(error);
  const auto stream = stream_of(handle);
  if (!stream) return say(cudaErrorInvalidResourceHandle);
  bool captured = false;
  if (const auto error = add_to_capture(*stream, work, captured); error != cudaSuccess) {
    return say(error);
  }
  if (!captured) submit(stream, std::move(work));
  return cudaSuccess;
}

void drain(Stream& stream) {
  std::unique_lock lock(stream.mutex);
  const auto number = stream.submitted;
  stream.changed.wait(lock, [&] { return stream.completed >= number; });
}

bool idle(Stream& stream) {
  const std::lock_guard lock(stream.mutex);
  return stream.completed == stream.submitted;
}

void synchronize_all(int device) {
  std::vector<StreamPointer> all{default_stream(device)};
  {
    const std::lock_guard lock(streams().mutex);
    for (const auto& [handle, stream] : streams().made) {
      if (stream->device == device) all.push_back(stream);
    }
  }
  for (const auto& stream : all) drain(*stream);
}

}  // namespace weft::emulated

using namespace weft::emulated;

extern "C" {

cudaError_t cudaDeviceSynchronize() {
  if (const auto error = usable(); error != cudaSuccess) return say(error);
  if (const auto error = refuse_while_capturing(); error != cudaSuccess) return say(error);
  synchronize_all(current_device());
  return say(usable());
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return create(stream, cudaStreamDefault); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return create(stream, flags);
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return create(stream, flags);
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  if (devices() == 0) return say(cudaErrorNoDevice);
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  if (handle == nullptr) return say(cudaErrorInvalidResourceHandle);
  StreamPointer stream;
  {
    const std::lock_guard lock(streams().mutex);
    const auto found = streams().made.find(handle);
    if (found == streams().made.end()) return say(cudaErrorInvalidResourceHandle);
    stream = std::move(found->second);
    streams().made.erase(found);
  }
  const std::lock_guard lock(stream->mutex);
  stream->closing = true;
  stream->changed.notify_all();
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  if (const auto error = usable(); error != cudaSuccess) return say(error);
  const auto stream = stream_of(handle);
  if (!stream) return say(cudaErrorInvalidResourceHandle);
  if (const auto error = refuse_while_capturing(stream.get()); error != cudaSuccess) {
    return say(error);
  }
  drain(*stream);
  return say(usable());
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  if (const auto error = usable(); error != cudaSuccess) return say(error);
  const auto stream = stream_of(handle);
  if (!stream) return say(cudaErrorInvalidResourceHandle);
  if (const auto error = refuse_while_capturing(stream.get()); error != cudaSuccess) {
    return say(error);
  }
  return say(idle(*stream) ? usable() : cudaErrorNotReady);
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  if (function == nullptr) return say(cudaErrorInvalidValue);
  return enqueue(stream, {WorkKind::host, [=] { call_host(function, data); }});
}

}  // extern "C"
