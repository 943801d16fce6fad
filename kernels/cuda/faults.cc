#include "kernels/cuda/faults.h"

#include <atomic>
#include <mutex>
#include <new>
#include <vector>

#include "kernels/base/error.h"
#include "kernels/cuda/fault_record.h"
#include "kernels/cuda/runtime.h"

namespace weft::kernels::cuda {
namespace {

std::mutex mutex;
std::atomic<unsigned long long> next_order{1};

// A device's record is made once and kept for the life of the process: graphs hold its address.
FaultRecord* record_of(int device, bool wanted) {
  static std::vector<FaultRecord*> records;
  const std::scoped_lock lock(mutex);
  const auto slot = static_cast<std::size_t>(device);
  if (slot >= records.size()) {
    if (!wanted) return nullptr;
    records.resize(slot + 1);
  }
  if (records[slot] == nullptr && wanted) {
    records[slot] = new (allocate_pinned(Bytes(sizeof(FaultRecord)))) FaultRecord;
  }
  return records[slot];
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
  return {record_of(current_device(), true), kind, next_order.fetch_add(1), bound, ignored};
}

void check_faults() {
  FaultRecord* const record = record_of(current_device(), false);
  if (record == nullptr || static_cast<volatile FaultRecord*>(record)->kind == FaultKind::none) {
    return;
  }
  wait_device();  // whoever writes has written
  const FaultRecord told = *record;
  *record = {};
  tell(told);
}

}  // namespace weft::kernels::cuda
