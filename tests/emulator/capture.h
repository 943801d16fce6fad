// Work that is captured into a graph instead of run.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "tests/emulator/stream.h"

namespace weft::emulated {

struct Node {
  Work work;
  std::vector<std::size_t> after;  // earlier nodes
};

struct Capture {
  Stream* origin = nullptr;
  std::thread::id thread;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::vector<Node> nodes;
  std::vector<std::shared_ptr<void>> kept;  // memory that the graph's work uses
  std::set<StreamPointer> streams;
  bool active = true, valid = true;
};

// One for all captures: they are rare.
std::mutex& capture_mutex();

// Adds work to the stream's capture where there is one (`captured` tells).
cudaError_t add_to_capture(Stream& stream, const Work& work, bool& captured);
// Keeps something alive for as long as the graph that the stream captures; false where it does not.
bool keep_with_capture(Stream& stream, std::shared_ptr<void> kept);

// What may wait or allocate is refused to a thread that captures (unless it chose
// cudaStreamCaptureModeRelaxed), and for a stream that is captured; the capture is lost then.
cudaError_t refuse_while_capturing(Stream* stream = nullptr);

// For events: where the stream's capture stands.
struct CapturedPlace {
  std::shared_ptr<Capture> capture;
  std::vector<std::size_t> tips;
};
CapturedPlace captured_place(Stream& stream);
// Makes the stream's work come after the place; a stream that is not captured joins.
cudaError_t come_after(const StreamPointer& stream, const CapturedPlace& place);
bool is_captured(Stream& stream);
// The stream's capture, if any, is lost.
void invalidate(Stream& stream);

}  // namespace weft::emulated
