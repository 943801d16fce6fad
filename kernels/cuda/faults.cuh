// The device's side of kernels/cuda/faults.h.
#pragma once

#include <cstdint>

#include "hardware.cuh"
#include "kernels/cuda/fault_record.h"

namespace weft::kernels::cuda {

// Rare, so a lock does: the earliest operation and the lowest position stay.
inline __device__ void report_fault(const FaultSink& sink, std::int64_t position,
                                    std::int64_t index) {
  FaultRecord& record = *sink.record;
  while (atomicCAS(&record.taken, 0u, 1u) != 0u) pause_ns(100);
  __threadfence();
  volatile FaultRecord& now = record;
  const bool first = now.kind == FaultKind::none || sink.order < now.order ||
                     (sink.order == now.order && position < now.position);
  if (first) {
    now.kind = sink.kind;
    now.order = sink.order;
    now.position = position;
    now.index = index;
    now.bound = sink.bound;
    now.ignored = sink.ignored;
  }
  fence_system();
  atomicExch(&record.taken, 0u);
}

// Whether an index may be used; reports it otherwise.
inline __device__ bool index_is_good(const FaultSink& sink, std::int64_t position,
                                     std::int64_t index) {
  if (index >= 0 && index < sink.bound) return true;
  report_fault(sink, position, index);
  return false;
}

}  // namespace weft::kernels::cuda
