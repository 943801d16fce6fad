// Allows this thread, for a scope, what CUDA forbids a thread that captures a stream because it may
// wait: allocating memory and asking events. Nothing that is captured depends on these.
#pragma once

#include <cuda_runtime_api.h>

namespace weft::kernels::cuda {

class RelaxedCapture {
 public:
  RelaxedCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  ~RelaxedCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  RelaxedCapture(const RelaxedCapture&) = delete;
  RelaxedCapture& operator=(const RelaxedCapture&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

}  // namespace weft::kernels::cuda
