#include "kernels/cuda/faults.h"

#include <cuda_runtime.h>

#include <atomic>
#include <cstring>
#include <mutex>
#include <vector>

#include "kernels/base/error.h"
#include "kernels/cuda/fault_record.h"
#include "kernels/cuda/status.h"

namespace weft::kernels::cuda {
namespace {

// One device's record and flag: made once, kept for the life of the process, since graphs hold
// their addresses.
struct DeviceFaults {
  FaultRecord* record = nullptr;
  unsigned* flag = nullptr;         // of the host
  unsigned* device_flag = nullptr;  // the same word, as the device addresses it
};

std::mutex mutex;
std::atomic<unsigned long long> next_order{1};

std::vector<DeviceFaults>& all() {
  static std::vector<DeviceFaults> faults;
  return faults;
}

int current_device() {
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  return device;
}

// Memory is made even while the calling thread captures a graph.
class Uncaptured {
 public:
  Uncaptured() { check(cudaThreadExchangeStreamCaptureMode(&mode_), "stream capture mode"); }
  ~Uncaptured() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  Uncaptured(const Uncaptured&) = delete;
  Uncaptured& operator=(const Uncaptured&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

DeviceFaults make() {
  const Uncaptured uncaptured;
  DeviceFaults made;
  void* memory = nullptr;
  check(cudaHostAlloc(&memory, sizeof(unsigned), cudaHostAllocMapped), "cudaHostAlloc");
  made.flag = static_cast<unsigned*>(memory);
  *made.flag = 0;
  check(cudaHostGetDevicePointer(&memory, made.flag, 0), "cudaHostGetDevicePointer");
  made.device_flag = static_cast<unsigned*>(memory);
  check(cudaMalloc(&memory, sizeof(FaultRecord)), "cudaMalloc");
  made.record = static_cast<FaultRecord*>(memory);
  const FaultRecord none{};
  check(cudaMemcpy(made.record, &none, sizeof none, cudaMemcpyHostToDevice), "cudaMemcpy");
  return made;
}

DeviceFaults faults_of(int device, bool wanted) {
  const std::scoped_lock lock(mutex);
  auto& faults = all();
  const auto slot = static_cast<std::size_t>(device);
  if (slot >= faults.size()) {
    if (!wanted) return {};
    faults.resize(slot + 1);
  }
  if (faults[slot].record == nullptr && wanted) faults[slot] = make();
  return faults[slot];
}

[[noreturn]] void tell(const FaultRecord& r) {
  switch (r.kind) {
    case FaultKind::cross_entropy:
      fail<InvalidArgument>(
          "cross_entropy: target {} of row {} is outside [0, {}) and is not ignore_index {}; check "
          "the labels against the number of classes",
          r.index, r.position, r.bound, r.ignored);
    case FaultKind::max_axis_backward:
      fail<InvalidArgument>("max_axis_backward: index {} at {}: expected 0..{}.", r.index,
                            r.position, r.bound - 1);
    default:
      fail<InvalidArgument>(
          "embedding: index {} at position {} is outside [0, {}); check the tokens against the "
          "size of the vocabulary, and the length against the position table",
          r.index, r.position, r.bound);
  }
}

}  // namespace

FaultSink fault_sink(FaultKind kind, std::int64_t bound, std::int64_t ignored) {
  const DeviceFaults faults = faults_of(current_device(), true);
  return {faults.record, faults.device_flag, kind, next_order.fetch_add(1), bound, ignored};
}

void check_faults() {
  const DeviceFaults faults = faults_of(current_device(), false);
  if (faults.flag == nullptr || *static_cast<volatile unsigned*>(faults.flag) == 0) return;
  FaultRecord record;
  check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  check(cudaMemcpy(&record, faults.record, sizeof record, cudaMemcpyDeviceToHost), "cudaMemcpy");
  const FaultRecord none{};
  check(cudaMemcpy(faults.record, &none, sizeof none, cudaMemcpyHostToDevice), "cudaMemcpy");
  *static_cast<volatile unsigned*>(faults.flag) = 0;
  tell(record);
}

}  // namespace weft::kernels::cuda
