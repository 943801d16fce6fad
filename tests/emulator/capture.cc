#include "tests/emulator/capture.h"

#include "tests/emulator/devices.h"
#include "tests/emulator/graph.h"

namespace weft::emulated {
namespace {

constinit thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;

// Captures that go on, to be found by the thread that began them.
std::vector<std::shared_ptr<Capture>>& active() {
  static auto* const all = new std::vector<std::shared_ptr<Capture>>;
  return *all;
}

std::vector<bool> ancestors_of(const Capture& capture, const std::vector<std::size_t>& tips) {
  std::vector<bool> reached(capture.nodes.size(), false);
  for (const auto tip : tips) reached[tip] = true;
  for (std::size_t i = capture.nodes.size(); i-- > 0;) {
    if (!reached[i]) continue;
    for (const auto before : capture.nodes[i].after) reached[before] = true;
  }
  return reached;
}

cudaError_t end_state(Stream& stream, const Capture& capture) {
  if (capture.origin != &stream) return cudaErrorStreamCaptureUnmatched;
  if (capture.mode != cudaStreamCaptureModeRelaxed &&
      capture.thread != std::this_thread::get_id()) {
    return cudaErrorStreamCaptureWrongThread;
  }
  if (!capture.valid) return cudaErrorStreamCaptureInvalidated;
  const auto reached = ancestors_of(capture, stream.tips);
  for (const bool joined : reached) {
    if (!joined) return cudaErrorStreamCaptureUnjoined;
  }
  return cudaSuccess;
}

}  // namespace

std::mutex& capture_mutex() {
  static auto* const mutex = new std::mutex;
  return *mutex;
}

cudaError_t add_to_capture(Stream& stream, const Work& work, bool& captured) {
  const std::lock_guard lock(capture_mutex());
  captured = stream.capture != nullptr;
  if (!captured) return cudaSuccess;
  auto& capture = *stream.capture;
  if (!capture.valid) return cudaErrorStreamCaptureInvalidated;
  capture.nodes.push_back({work, stream.tips});
  stream.tips = {capture.nodes.size() - 1};
  return cudaSuccess;
}

bool keep_with_capture(Stream& stream, std::shared_ptr<void> kept) {
  const std::lock_guard lock(capture_mutex());
  if (stream.capture == nullptr) return false;
  stream.capture->kept.push_back(std::move(kept));
  return true;
}

cudaError_t refuse_while_capturing(Stream* stream) {
  const std::lock_guard lock(capture_mutex());
  if (stream != nullptr && stream->capture != nullptr) {
    stream->capture->valid = false;
    return cudaErrorStreamCaptureUnsupported;
  }
  if (thread_mode == cudaStreamCaptureModeRelaxed) return cudaSuccess;
  for (const auto& capture : active()) {
    const bool concerns = capture->mode == cudaStreamCaptureModeGlobal ||
                          capture->thread == std::this_thread::get_id();
    if (capture->mode == cudaStreamCaptureModeRelaxed || !concerns) continue;
    capture->valid = false;
    return cudaErrorStreamCaptureUnsupported;
  }
  return cudaSuccess;
}

CapturedPlace captured_place(Stream& stream) {
  const std::lock_guard lock(capture_mutex());
  return {stream.capture, stream.tips};
}

cudaError_t come_after(const StreamPointer& stream, const CapturedPlace& place) {
  const std::lock_guard lock(capture_mutex());
  if (!place.capture->active) return cudaErrorCapturedEvent;
  if (stream->capture == nullptr) {
    if (stream->blocking && stream == default_stream(stream->device)) {
      return cudaErrorStreamCaptureImplicit;
    }
    stream->capture = place.capture;
    stream->tips = place.tips;
    place.capture->streams.insert(stream);
    return cudaSuccess;
  }
  if (stream->capture != place.capture) {
    stream->capture->valid = place.capture->valid = false;
    return cudaErrorStreamCaptureMerge;
  }
  stream->tips.insert(stream->tips.end(), place.tips.begin(), place.tips.end());
  return cudaSuccess;
}

bool is_captured(Stream& stream) {
  const std::lock_guard lock(capture_mutex());
  return stream.capture != nullptr;
}

void invalidate(Stream& stream) {
  const std::lock_guard lock(capture_mutex());
  if (stream.capture != nullptr) stream.capture->valid = false;
}

}  // namespace weft::emulated

using namespace weft::emulated;

extern "C" {

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  std::swap(*mode, thread_mode);
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  const auto stream = stream_of(handle);
  if (!stream) return say(cudaErrorInvalidResourceHandle);
  const std::lock_guard lock(capture_mutex());
  *status = stream->capture == nullptr ? cudaStreamCaptureStatusNone
            : stream->capture->valid   ? cudaStreamCaptureStatusActive
                                       : cudaStreamCaptureStatusInvalidated;
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  if (const auto error = usable(); error != cudaSuccess) return say(error);
  if (handle == nullptr) return say(cudaErrorStreamCaptureUnsupported);
  const auto stream = stream_of(handle);
  if (!stream) return say(cudaErrorInvalidResourceHandle);
  const std::lock_guard lock(capture_mutex());
  if (stream->capture != nullptr) return say(cudaErrorStreamCaptureUnsupported);
  auto capture = std::make_shared<Capture>();
  capture->origin = stream.get();
  capture->thread = std::this_thread::get_id();
  capture->mode = mode;
  capture->streams.insert(stream);
  stream->capture = capture;
  stream->tips.clear();
  active().push_back(std::move(capture));
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  *graph = nullptr;
  const auto stream = stream_of(handle);
  if (!stream) return say(cudaErrorInvalidResourceHandle);
  const std::lock_guard lock(capture_mutex());
  const auto capture = stream->capture;
  if (capture == nullptr) return say(cudaErrorInvalidValue);
  const auto error = end_state(*stream, *capture);
  if (error == cudaErrorStreamCaptureUnmatched || error == cudaErrorStreamCaptureWrongThread) {
    return say(error);
  }
  capture->active = false;
  for (const auto& part : capture->streams) {
    part->capture = nullptr;
    part->tips.clear();
  }
  std::erase(active(), capture);
  if (error != cudaSuccess) return say(error);
  *graph = new Graph{{std::move(capture->nodes), std::move(capture->kept)}};
  return cudaSuccess;
}

}  // extern "C"
