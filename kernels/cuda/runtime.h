// The CUDA runtime for the floors above: devices, memory, streams, events, graphs and memory shared
// between processes, without CUDA's headers. kernels/cuda/runtime*.cc where the backend is built,
// else kernels/no_cuda/runtime.cc with the same names. Nothing here needs a driver to link, start,
// or ask how many devices there are.
//
// Errors, unless said otherwise: Unsupported where there is no device, InvalidArgument for the
// caller's mistake (a device out of range, a host pointer where a device's is meant), IoError for
// what the driver refused (out of memory, IPC that a container forbids) and for a kernel that
// failed earlier. Everything may be called from any thread; what concerns "the current device" is a
// setting of the calling thread, as in CUDA. Handles are CUDA's own, owned by the caller.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <utility>

#include "kernels/base/units.h"
#include "kernels/cuda/stream.h"

namespace weft::kernels::cuda {

// ---- devices

// Devices this process can use; 0 where the backend is not built, no driver is installed, or it
// fails. Never throws. reason_for_none() then says which of these it is, and is empty otherwise.
int device_count();
std::string reason_for_none();

struct DeviceInfo {
  std::string name;
  int major = 0, minor = 0;  // compute capability
  Bytes memory;
  int multiprocessors = 0;
  Bytes l2_cache;
  Bytes shared_memory;     // of a block, when it asks for all
  std::string pci_bus_id;  // "0000:1b:00.0"
  std::string uuid;        // as nvidia-smi prints it: "GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
};
// InvalidArgument for an index outside 0 .. device_count() - 1, where there are devices.
DeviceInfo device_info(int index);
// "13.0"; of the driver: the newest that it serves. Empty where there is none.
std::string driver_version();
std::string runtime_version();

int current_device();
void set_device(int index);

// The current device for a scope.
class DeviceGuard {
 public:
  explicit DeviceGuard(int index);
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int previous_;
};

// Whether kernels and copies of `device` can use the memory of `peer`; true for a device itself.
bool can_access_peer(int device, int peer);
// Lets them. Nothing where that stands already, Unsupported where the two cannot.
void enable_peer_access(int device, int peer);

// ---- memory of the current device, and pinned memory of the host, which every device can use

// Never nullptr for bytes > 0. IoError where memory does not suffice, though the keeper gave back
// what it does not use: how much was asked, how much is free, what the keeper holds.
void* allocate(Bytes bytes);
void* allocate_pinned(Bytes bytes);
// nullptr instead of that error.
void* try_allocate(Bytes bytes);
void* try_allocate_pinned(Bytes bytes);
// Wait until what is queued on the device is done. nullptr does nothing.
void release(void* data) noexcept;
void release_pinned(void* data) noexcept;

// Who keeps memory of devices to give it out again: tensor/cuda_allocator.h.
struct MemoryKeeper {
  void (*give_back)(int device) = nullptr;        // all that is not in use
  std::string (*describe)(int device) = nullptr;  // "tensors hold 64 bytes, 32 of them in use"
};
void set_memory_keeper(const MemoryKeeper& keeper);

struct MemoryInfo {
  Bytes free, total;
};
MemoryInfo memory_info();

enum class MemoryKind {
  unknown,  // of the host and not pinned, or freed, or never allocated
  pinned,
  device,
  managed,
};
struct PointerInfo {
  MemoryKind kind = MemoryKind::unknown;
  int device = -1;  // whose memory it is; for pinned memory the device it was pinned through
};
PointerInfo pointer_info(const void* data);
// The device whose memory this is, -1 where it is none's.
int device_of(const void* data);

// ---- copies and fills. Queued on the stream unless they say that they wait. Either end is memory
// of a device or of the host; with host memory that is not pinned, the call may wait.
void copy_async(void* to, const void* from, Bytes bytes, Stream stream);
void fill_async(void* to, unsigned char value, Bytes bytes, Stream stream);
void fill_zero(void* to, Bytes bytes, Stream stream);
// Wait until the copy is done, and for the default stream before.
void copy_to_device(void* to, const void* from, Bytes bytes);
void copy_to_host(void* to, const void* from, Bytes bytes);

// ---- streams. They never wait for the default stream, nor it for them.
enum class Priority { normal, high };
Stream create_stream(Priority priority = Priority::normal);
void destroy_stream(Stream stream) noexcept;  // what is queued on it still runs
void wait_stream(Stream stream);
bool stream_done(Stream stream);
void stream_wait_event(Stream stream, void* event);
// Calls function(data) on a thread of the driver when the stream comes to it. It must not call
// CUDA.
void call_on_host(Stream stream, void (*function)(void*), void* data);
void wait_device();

// ---- events, of the current device
void* create_event(bool timed = false);
void destroy_event(void* event) noexcept;
void record_event(void* event, Stream stream);
// An event that was never recorded is done.
bool event_done(void* event);
void wait_event(void* event);
double elapsed_ms(void* start, void* end);  // both timed and recorded

// ---- graphs. Between begin and end, what is queued on the stream, and on streams that wait for
// events recorded on it, is not run but kept. This thread must not wait for any stream meanwhile;
// allocating, releasing and event_done() are allowed.
void begin_capture(Stream stream);
bool is_capturing(Stream stream);
// An executable graph, to be destroyed. InvalidArgument where the captured work was not joined to
// the stream, or something that cannot be captured came in between.
void* end_capture(Stream stream);
void abandon_capture(Stream stream) noexcept;
void launch_graph(void* graph, Stream stream);
void destroy_graph(void* graph) noexcept;

// ---- memory and events shared between processes of one host

struct IpcHandle {
  std::array<std::byte, 64> bytes{};
};
// Of memory from allocate(), the begin of an allocation. IoError where the system refuses, as
// containers without a shared pid namespace or other processes' permissions do.
IpcHandle export_memory(void* data);
// Memory of another process (not of this one) on the device it lives on, until close_imported().
void* import_memory(const IpcHandle& handle);
void close_imported(void* data) noexcept;
void* create_shared_event();
IpcHandle export_event(void* event);
void* import_event(const IpcHandle& handle);

// ---- owners

class OwnedStream {
 public:
  OwnedStream();  // on the current device
  explicit OwnedStream(int device, Priority priority = Priority::normal);
  ~OwnedStream() { destroy_stream(stream_); }
  OwnedStream(OwnedStream&& other) noexcept : stream_(std::exchange(other.stream_, nullptr)) {}
  OwnedStream& operator=(OwnedStream&& other) noexcept {
    std::swap(stream_, other.stream_);
    return *this;
  }

  Stream get() const { return stream_; }
  void synchronize() const { wait_stream(stream_); }

 private:
  Stream stream_ = nullptr;
};

// A place in the work of a stream. Made when it is first recorded.
class Event {
 public:
  explicit Event(bool timed = false) : timed_(timed) {}
  explicit Event(int device, bool timed = false) : device_(device), timed_(timed) {}
  ~Event() { destroy_event(event_); }
  Event(Event&& other) noexcept
      : event_(std::exchange(other.event_, nullptr)),
        device_(other.device_),
        timed_(other.timed_) {}
  Event& operator=(Event&& other) noexcept {
    std::swap(event_, other.event_);
    std::swap(device_, other.device_);
    std::swap(timed_, other.timed_);
    return *this;
  }

  void record(Stream stream);
  // Makes the stream wait until it has come there. Nothing before the first record().
  void wait_on(Stream stream) const;
  void synchronize() const;
  bool done() const;
  double ms_since(const Event& start) const { return elapsed_ms(start.event_, event_); }
  void* get() const { return event_; }

 private:
  void* event_ = nullptr;
  int device_ = -1;  // -1: the current one at the first record()
  bool timed_ = false;
};

// Page-locked memory of the host.
class PinnedMemory {
 public:
  PinnedMemory() = default;
  explicit PinnedMemory(Bytes bytes)
      : data_(static_cast<std::byte*>(allocate_pinned(bytes))), bytes_(bytes) {}
  ~PinnedMemory() { release_pinned(data_); }
  PinnedMemory(PinnedMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, Bytes())) {}
  PinnedMemory& operator=(PinnedMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  std::byte* data() const { return data_; }
  Bytes size() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  Bytes bytes_;
};

// An executable graph.
class Graph {
 public:
  Graph() = default;
  explicit Graph(void* handle) : handle_(handle) {}  // from end_capture(), now owned
  ~Graph() { destroy_graph(handle_); }
  Graph(Graph&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Graph& operator=(Graph&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }

  bool empty() const { return handle_ == nullptr; }
  void launch(Stream stream) const { launch_graph(handle_, stream); }
  void* get() const { return handle_; }

 private:
  void* handle_ = nullptr;
};

}  // namespace weft::kernels::cuda
