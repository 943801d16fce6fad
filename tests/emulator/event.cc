#include "tests/emulator/event.h"

#include <chrono>
#include <set>
#include <thread>

#include "tests/emulator/capture.h"
#include "tests/emulator/devices.h"

namespace weft::emulated {
namespace {

struct Events {
  std::mutex mutex;
  std::set<Event*> live;
};
Events& events() {
  static auto* const all = new Events;
  return *all;
}

bool is_live(cudaEvent_t event) {
  const std::lock_guard lock(events().mutex);
  return events().live.count(event) != 0;
}

std::int64_t now_ns() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

// What the event was last recorded as.
struct Last {
  std::shared_ptr<Record> record;
  CapturedPlace captured;
};
Last last_of(Event& event) {
  const std::lock_guard lock(event.mutex);
  return {event.record, event.captured};
}

// Success when the event is asked from the host, where that is allowed.
cudaError_t may_ask(cudaEvent_t event) {
  if (const auto error = usable(); error != cudaSuccess) return error;
  if (!is_live(event)) return cudaErrorInvalidResourceHandle;
  if (const auto error = refuse_while_capturing(); error != cudaSuccess) return error;
  return last_of(*event).captured.capture != nullptr ? cudaErrorCapturedEvent : cudaSuccess;
}

}  // namespace

Event* new_event(int device, bool timed, std::shared_ptr<SharedEvent> shared) {
  auto* const event = new Event;
  event->device = device;
  event->timed = timed;
  event->shared = std::move(shared);
  const std::lock_guard lock(events().mutex);
  events().live.insert(event);
  return event;
}

bool live_event(cudaEvent_t event) { return is_live(event); }

}  // namespace weft::emulated

using namespace weft::emulated;

extern "C" {

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  if (const auto error = usable(); error != cudaSuccess) return say(error);
  const bool timed = (flags & cudaEventDisableTiming) == 0;
  const bool shared = (flags & cudaEventInterprocess) != 0;
  if (event == nullptr || flags > 7 || (shared && timed)) return say(cudaErrorInvalidValue);
  *event = new_event(current_device(), timed, shared ? make_shared_event() : nullptr);
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  {
    const std::lock_guard lock(events().mutex);
    if (events().live.erase(event) == 0) return say(cudaErrorInvalidResourceHandle);
  }
  delete event;  // records in flight hold what they need
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) {
  if (const auto error = usable(); error != cudaSuccess) return say(error);
  const auto stream = stream_of(handle);
  if (!stream || !is_live(event) || stream->device != event->device) {
    return say(cudaErrorInvalidResourceHandle);
  }
  if (auto place = captured_place(*stream); place.capture != nullptr) {
    const std::lock_guard lock(event->mutex);
    event->captured = std::move(place);
    return cudaSuccess;
  }
  auto record = std::make_shared<Record>();
  {
    const std::lock_guard lock(event->mutex);
    event->record = record;
    event->captured = {};
  }
  const auto shared = event->shared;
  const auto number = shared != nullptr ? shared->begin() : 0;
  submit(stream, {WorkKind::record, [record, shared, number] {
                    record->ns = now_ns();
                    record->done.store(true, std::memory_order_release);
                    record->done.notify_all();
                    if (shared != nullptr) shared->end(number);
                  }});
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (const auto error = may_ask(event); error != cudaSuccess) return say(error);
  if (event->shared != nullptr) {
    return say(event->shared->reached(event->shared->last()) ? cudaSuccess : cudaErrorNotReady);
  }
  const auto record = last_of(*event).record;
  return say(record == nullptr || record->done.load(std::memory_order_acquire) ? usable()
                                                                               : cudaErrorNotReady);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (const auto error = may_ask(event); error != cudaSuccess) return say(error);
  if (event->shared != nullptr) {
    event->shared->wait(event->shared->last());
    return say(usable());
  }
  const auto record = last_of(*event).record;
  if (record != nullptr) record->done.wait(false, std::memory_order_acquire);
  return say(usable());
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned) {
  if (const auto error = usable(); error != cudaSuccess) return say(error);
  const auto stream = stream_of(handle);
  if (!stream || !is_live(event)) return say(cudaErrorInvalidResourceHandle);
  const auto last = last_of(*event);
  if (last.captured.capture != nullptr) return say(come_after(stream, last.captured));
  if (event->shared != nullptr) {
    if (is_captured(*stream)) return say(cudaErrorStreamCaptureUnsupported);
    submit(stream, {WorkKind::wait, [shared = event->shared, number = event->shared->last()] {
                      shared->wait(number);
                    }});
    return cudaSuccess;
  }
  if (last.record == nullptr) return cudaSuccess;
  if (is_captured(*stream)) {
    invalidate(*stream);
    return say(cudaErrorStreamCaptureIsolation);
  }
  submit(stream, {WorkKind::wait,
                  [record = last.record] { record->done.wait(false, std::memory_order_acquire); }});
  return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t start, cudaEvent_t end) {
  for (const auto event : {start, end}) {
    if (const auto error = may_ask(event); error != cudaSuccess) return say(error);
    if (!event->timed) return say(cudaErrorInvalidResourceHandle);
    const auto record = last_of(*event).record;
    if (record == nullptr) return say(cudaErrorInvalidResourceHandle);
    if (!record->done.load(std::memory_order_acquire)) return say(cudaErrorNotReady);
  }
  *ms = static_cast<float>(
      static_cast<double>(last_of(*end).record->ns - last_of(*start).record->ns) * 1e-6);
  return cudaSuccess;
}

}  // extern "C"
