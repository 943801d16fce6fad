// Copies, streams, events and graphs.
#include <cuda_runtime_api.h>

#include "kernels/base/error.h"
#include "kernels/cuda/relaxed_capture.h"
#include "kernels/cuda/runtime.h"
#include "kernels/cuda/status.h"

namespace weft::kernels::cuda {
namespace {

cudaStream_t as_stream(Stream stream) { return static_cast<cudaStream_t>(stream); }
cudaEvent_t as_event(void* event) { return static_cast<cudaEvent_t>(event); }
cudaGraphExec_t as_graph(void* graph) { return static_cast<cudaGraphExec_t>(graph); }

// True, false for "not yet", else an error.
bool done(cudaError_t status, const char* operation) {
  if (status == cudaErrorNotReady) {
    cudaGetLastError();
    return false;
  }
  check(status, operation);
  return true;
}

class CapturedGraph {
 public:
  explicit CapturedGraph(Stream stream) {
    const cudaError_t status = cudaStreamEndCapture(as_stream(stream), &graph_);
    if (status == cudaSuccess && graph_ != nullptr) return;
    cudaGetLastError();
    fail<InvalidArgument>(
        "ending the capture of a CUDA graph: {} ({}). Work on other streams must be joined by "
        "events, and nothing that waits may be called meanwhile.",
        cudaGetErrorString(status), cudaGetErrorName(status));
  }
  ~CapturedGraph() { cudaGraphDestroy(graph_); }
  CapturedGraph(const CapturedGraph&) = delete;
  CapturedGraph& operator=(const CapturedGraph&) = delete;
  cudaGraph_t get() const { return graph_; }

 private:
  cudaGraph_t graph_ = nullptr;
};

}  // namespace

void copy_async(void* to, const void* from, Bytes bytes, Stream stream) {
  if (bytes.value <= 0) return;
  check(cudaMemcpyAsync(to, from, bytes.size(), cudaMemcpyDefault, as_stream(stream)),
        "cudaMemcpyAsync");
}

void fill_async(void* to, unsigned char value, Bytes bytes, Stream stream) {
  if (bytes.value <= 0) return;
  check(cudaMemsetAsync(to, value, bytes.size(), as_stream(stream)), "cudaMemsetAsync");
}

void fill_zero(void* to, Bytes bytes, Stream stream) { fill_async(to, 0, bytes, stream); }

void copy_to_device(void* to, const void* from, Bytes bytes) {
  if (bytes.value <= 0) return;
  check(cudaMemcpy(to, from, bytes.size(), cudaMemcpyHostToDevice), "cudaMemcpy to the device");
}

void copy_to_host(void* to, const void* from, Bytes bytes) {
  if (bytes.value <= 0) return;
  check(cudaMemcpy(to, from, bytes.size(), cudaMemcpyDeviceToHost), "cudaMemcpy to the host");
}

Stream create_stream(Priority priority) {
  int least = 0, greatest = 0;
  check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "cudaDeviceGetStreamPriorityRange");
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking,
                                     priority == Priority::high ? greatest : least),
        "cudaStreamCreateWithPriority");
  return stream;
}

void destroy_stream(Stream stream) noexcept {
  if (stream != nullptr) cudaStreamDestroy(as_stream(stream));
}

void wait_stream(Stream stream) {
  check(cudaStreamSynchronize(as_stream(stream)), "waiting for a CUDA stream");
}

bool stream_done(Stream stream) {
  return done(cudaStreamQuery(as_stream(stream)), "cudaStreamQuery");
}

void stream_wait_event(Stream stream, void* event) {
  check(cudaStreamWaitEvent(as_stream(stream), as_event(event), 0), "cudaStreamWaitEvent");
}

void call_on_host(Stream stream, void (*function)(void*), void* data) {
  check(cudaLaunchHostFunc(as_stream(stream), function, data), "cudaLaunchHostFunc");
}

void wait_device() { check(cudaDeviceSynchronize(), "waiting for a CUDA device"); }

void* create_event(bool timed) {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, timed ? cudaEventDefault : cudaEventDisableTiming),
        "cudaEventCreateWithFlags");
  return event;
}

void destroy_event(void* event) noexcept {
  if (event != nullptr) cudaEventDestroy(as_event(event));
}

void record_event(void* event, Stream stream) {
  check(cudaEventRecord(as_event(event), as_stream(stream)), "cudaEventRecord");
}

bool event_done(void* event) {
  const RelaxedCapture relaxed;
  return done(cudaEventQuery(as_event(event)), "cudaEventQuery");
}

void wait_event(void* event) {
  check(cudaEventSynchronize(as_event(event)), "waiting for a CUDA event");
}

double elapsed_ms(void* start, void* end) {
  if (start == nullptr || end == nullptr) {
    fail<InvalidArgument>("the time between two CUDA events: both must have been recorded.");
  }
  float ms = 0;
  check(cudaEventElapsedTime(&ms, as_event(start), as_event(end)), "cudaEventElapsedTime");
  return static_cast<double>(ms);
}

void begin_capture(Stream stream) {
  if (stream == nullptr) {
    fail<InvalidArgument>(
        "capturing a CUDA graph: the default stream cannot be captured; use one "
        "from create_stream().");
  }
  check(cudaStreamBeginCapture(as_stream(stream), cudaStreamCaptureModeThreadLocal),
        "cudaStreamBeginCapture");
}

bool is_capturing(Stream stream) {
  auto state = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(as_stream(stream), &state), "cudaStreamIsCapturing");
  return state != cudaStreamCaptureStatusNone;
}

void* end_capture(Stream stream) {
  const CapturedGraph graph(stream);
  cudaGraphExec_t ready = nullptr;
  check(cudaGraphInstantiate(&ready, graph.get(), 0), "cudaGraphInstantiate");
  return ready;
}

void abandon_capture(Stream stream) noexcept {
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(as_stream(stream), &graph);
  if (graph != nullptr) cudaGraphDestroy(graph);
  cudaGetLastError();
}

void launch_graph(void* graph, Stream stream) {
  check(cudaGraphLaunch(as_graph(graph), as_stream(stream)), "cudaGraphLaunch");
}

void destroy_graph(void* graph) noexcept {
  if (graph != nullptr) cudaGraphExecDestroy(as_graph(graph));
}

OwnedStream::OwnedStream() : stream_(create_stream()) {}

OwnedStream::OwnedStream(int device, Priority priority) {
  const DeviceGuard guard(device);
  stream_ = create_stream(priority);
}

void Event::record(Stream stream) {
  const DeviceGuard guard(device_ < 0 ? current_device() : device_);
  if (event_ == nullptr) event_ = create_event(timed_);
  record_event(event_, stream);
}

void Event::wait_on(Stream stream) const {
  if (event_ != nullptr) stream_wait_event(stream, event_);
}

void Event::synchronize() const {
  if (event_ != nullptr) wait_event(event_);
}

bool Event::done() const { return event_ == nullptr || event_done(event_); }

}  // namespace weft::kernels::cuda
