#include "kernels/cuda/runtime.h"

#include "kernels/base/error.h"
#include "kernels/no_cuda/refuse.h"

namespace weft::kernels::cuda {

int device_count() { return 0; }

std::string reason_for_none() { return kNoBackend; }

DeviceInfo device_info(int index) {
  fail<Unsupported>("CUDA device {}: there is none, because {}.", index, kNoBackend);
}

std::string driver_version() { return {}; }
std::string runtime_version() { return {}; }

int current_device() { refuse_without_backend("the current CUDA device"); }
void set_device(int) { refuse_without_backend("choosing a CUDA device"); }
DeviceGuard::DeviceGuard(int) { refuse_without_backend("choosing a CUDA device"); }
DeviceGuard::~DeviceGuard() = default;
bool can_access_peer(int, int) { refuse_without_backend("CUDA peer access"); }
void enable_peer_access(int, int) { refuse_without_backend("CUDA peer access"); }

void* allocate(Bytes) { refuse_without_backend("allocating device memory"); }
void* allocate_pinned(Bytes) { refuse_without_backend("allocating pinned memory"); }
void* try_allocate(Bytes) { refuse_without_backend("allocating device memory"); }
void* try_allocate_pinned(Bytes) { refuse_without_backend("allocating pinned memory"); }
void release(void*) noexcept {}
void release_pinned(void*) noexcept {}
void set_memory_keeper(const MemoryKeeper&) {}
MemoryInfo memory_info() { refuse_without_backend("free memory of a CUDA device"); }
// Nothing is a device's memory.
PointerInfo pointer_info(const void*) { return {}; }
int device_of(const void*) { return -1; }

void copy_async(void*, const void*, Bytes, Stream) { refuse_without_backend("CUDA copy"); }
void fill_async(void*, unsigned char, Bytes, Stream) { refuse_without_backend("CUDA fill"); }
void fill_zero(void*, Bytes, Stream) { refuse_without_backend("CUDA fill"); }
void copy_to_device(void*, const void*, Bytes) { refuse_without_backend("CUDA copy to device"); }
void copy_to_host(void*, const void*, Bytes) { refuse_without_backend("CUDA copy to host"); }

Stream create_stream(Priority) { refuse_without_backend("creating a CUDA stream"); }
void destroy_stream(Stream) noexcept {}
void wait_stream(Stream) { refuse_without_backend("waiting for a CUDA stream"); }
bool stream_done(Stream) { refuse_without_backend("asking a CUDA stream"); }
void stream_wait_event(Stream, void*) { refuse_without_backend("waiting for a CUDA event"); }
void call_on_host(Stream, void (*)(void*), void*) { refuse_without_backend("a CUDA callback"); }
void wait_device() { refuse_without_backend("waiting for a CUDA device"); }

void* create_event(bool) { refuse_without_backend("creating a CUDA event"); }
void destroy_event(void*) noexcept {}
void record_event(void*, Stream) { refuse_without_backend("recording a CUDA event"); }
bool event_done(void*) { refuse_without_backend("asking a CUDA event"); }
void wait_event(void*) { refuse_without_backend("waiting for a CUDA event"); }
double elapsed_ms(void*, void*) { refuse_without_backend("the time between CUDA events"); }

void begin_capture(Stream) { refuse_without_backend("capturing a CUDA graph"); }
bool is_capturing(Stream) { return false; }
void* end_capture(Stream) { refuse_without_backend("capturing a CUDA graph"); }
void abandon_capture(Stream) noexcept {}
void launch_graph(void*, Stream) { refuse_without_backend("launching a CUDA graph"); }
void destroy_graph(void*) noexcept {}

IpcHandle export_memory(void*) { refuse_without_backend("exporting device memory"); }
void* import_memory(const IpcHandle&) { refuse_without_backend("importing device memory"); }
void close_imported(void*) noexcept {}
void* create_shared_event() { refuse_without_backend("creating a CUDA event"); }
IpcHandle export_event(void*) { refuse_without_backend("exporting a CUDA event"); }
void* import_event(const IpcHandle&) { refuse_without_backend("importing a CUDA event"); }

OwnedStream::OwnedStream() { refuse_without_backend("creating a CUDA stream"); }
OwnedStream::OwnedStream(int, Priority) { refuse_without_backend("creating a CUDA stream"); }
void Event::record(Stream) { refuse_without_backend("recording a CUDA event"); }
void Event::wait_on(Stream) const {}
void Event::synchronize() const {}
bool Event::done() const { return true; }

}  // namespace weft::kernels::cuda
