#include "tensor/stream.h"

#include <fmt/format.h>

#include <array>
#include <map>
#include <mutex>
#include <utility>

#include "kernels/base/error.h"
#include "kernels/cuda/faults.h"
#include "kernels/cuda/runtime.h"

namespace weft::tensor {
namespace {

namespace cuda = kernels::cuda;

// Streams of create() that nobody holds. Never destroyed, as handles may outlive any static.
struct Idle {
  std::mutex mutex;
  std::map<int, std::vector<void*>> of_device;
};
Idle& idle() {
  static auto* const streams = new Idle;
  return *streams;
}

void require_no_capture(const Stream& stream, std::string_view operation) {
  if (!stream.is_capturing()) return;
  fail<InvalidArgument>(
      "{}: the stream on {} is being captured into a graph, and what is captured cannot wait for "
      "the host. Read values after replay()",
      operation, to_string(stream.device()));
}

}  // namespace

struct Stream::State {
  Device device;
  void* handle = nullptr;
  bool owned = false;

  State(Device where, void* what, bool mine) : device(where), handle(what), owned(mine) {}
  ~State() {
    if (!owned) return;
    const std::lock_guard lock(idle().mutex);
    idle().of_device[device.index].push_back(handle);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
};

int cuda_device_count() { return cuda::device_count(); }

void require_device(Device device, std::string_view operation) {
  if (device.type != DeviceType::cuda) {
    fail<InvalidArgument>("{}: {} is not a CUDA device", operation, to_string(device));
  }
  // The count does not change while a process runs, once there is any.
  static const int count = cuda::device_count();
  if (device.index >= 0 && device.index < count) return;
  if (count == 0) {
    fail<Unsupported>("{} on {}: there is no CUDA device: {}. Use the cpu device", operation,
                      to_string(device), cuda::reason_for_none());
  }
  fail<InvalidArgument>(
      "{} on {}: this process sees {} CUDA device{}, cuda:0 to cuda:{}; choose one of these, or "
      "make more visible (CUDA_VISIBLE_DEVICES)",
      operation, to_string(device), count, count == 1 ? "" : "s", count - 1);
}

namespace {

// By device; an entry that is not there means the default stream.
thread_local std::map<int, Stream> current_streams;

}  // namespace

Stream Stream::of_default(Device device) {
  require_device(device, "a stream");
  return Stream(std::make_shared<const State>(device, nullptr, false));
}

Stream Stream::create(Device device) {
  require_device(device, "a stream");
  void* handle = nullptr;
  {
    const std::lock_guard lock(idle().mutex);
    auto& kept = idle().of_device[device.index];
    if (!kept.empty()) handle = std::exchange(kept.back(), nullptr), kept.pop_back();
  }
  if (handle == nullptr) {
    const DeviceGuard guard(device);
    handle = cuda::create_stream();
  }
  return Stream(std::make_shared<const State>(device, handle, true));
}

Stream Stream::current(Device device) {
  const auto found = current_streams.find(device.index);
  if (device.type == DeviceType::cuda && found != current_streams.end()) return found->second;
  auto stream = of_default(device);
  current_streams.emplace(device.index, stream);
  return stream;
}

Device Stream::device() const { return state_->device; }
void* Stream::handle() const { return state_->handle; }

void Stream::synchronize() const {
  require_no_capture(*this, "synchronize");
  const DeviceGuard guard(device());
  cuda::wait_stream(handle());
  cuda::check_faults();
}

bool Stream::is_idle() const {
  require_no_capture(*this, "is_idle");
  const DeviceGuard guard(device());
  return cuda::stream_done(handle());
}

void Stream::wait(const Event& event) const {
  if (!event.is_recorded()) return;
  const DeviceGuard guard(device());
  cuda::stream_wait_event(handle(), event.handle());
}

void Stream::wait(const Stream& other) const {
  if (*this == other) return;
  Event event;
  event.record(other);
  wait(event);
}

bool Stream::is_capturing() const {
  if (handle() == nullptr) return false;  // the default stream cannot be captured
  const DeviceGuard guard(device());
  return cuda::is_capturing(handle());
}

struct Event::State {
  Device device;
  void* handle;

  State(Device where, bool timed) : device(where) {
    const DeviceGuard guard(device);
    handle = cuda::create_event(timed);
  }
  ~State() { cuda::destroy_event(handle); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
};

void Event::record(const Stream& stream) {
  if (!state_ || state_->device != stream.device() || state_.use_count() > 1) {
    state_ = std::make_shared<State>(stream.device(), timing_ == Timing::yes);
  }
  const DeviceGuard guard(stream.device());
  cuda::record_event(state_->handle, stream.handle());
}

bool Event::is_done() const { return !state_ || cuda::event_done(state_->handle); }

void Event::synchronize() const {
  if (state_) cuda::wait_event(state_->handle);
}

double Event::ms_since(const Event& start) const {
  if (timing_ == Timing::no || start.timing_ == Timing::no || !state_ || !start.state_) {
    fail<InvalidArgument>("ms_since: both events must be timed (Event::Timing::yes) and recorded");
  }
  return cuda::elapsed_ms(start.state_->handle, state_->handle);
}

void* Event::handle() const { return state_ ? state_->handle : nullptr; }

StreamGuard::StreamGuard(const Stream& stream) : previous_(Stream::current(stream.device())) {
  current_streams.insert_or_assign(stream.device().index, stream);
}

StreamGuard::~StreamGuard() {
  current_streams.insert_or_assign(previous_.device().index, previous_);
}

DeviceGuard::DeviceGuard(Device device) {
  if (device.type != DeviceType::cuda) return;
  const int now = cuda::current_device();
  if (now == device.index) return;
  cuda::set_device(device.index);
  previous_ = now;
}

DeviceGuard::~DeviceGuard() {
  if (previous_ >= 0) cuda::set_device(previous_);
}

void set_current_device(Device device) {
  require_device(device, "set_current_device");
  cuda::set_device(device.index);
}

void synchronize(Device device) {
  if (device.type != DeviceType::cuda) return;
  require_device(device, "synchronize");
  const DeviceGuard guard(device);
  cuda::wait_device();
  cuda::check_faults();
}

}  // namespace weft::tensor
