#include "comm/trace/recorder.h"

namespace weft::comm::trace {

bool Recorder::read(std::uint64_t serial, Operation& operation) const {
  const Line& line = (*lines_)[serial % kRecords];
  constexpr int kTries = 8;  // the writer may be the thread that a signal interrupted
  for (int attempt = 0; attempt < kTries; ++attempt) {
    if (line.serial.load(std::memory_order_acquire) != serial) return false;
    // The state first: one that says "over" has its end before it.
    operation.state = static_cast<State>(line.state.load(std::memory_order_acquire));
    operation.serial = serial;
    const std::uint64_t identity = line.identity.load(std::memory_order_acquire);
    operation.call.sequence = static_cast<std::uint32_t>(identity);
    operation.call.collective = static_cast<std::uint8_t>(identity >> 32);
    operation.call.dtype = static_cast<std::uint8_t>(identity >> 40);
    operation.call.op = static_cast<std::uint8_t>(identity >> 48);
    operation.call.algorithm = static_cast<std::uint8_t>(identity >> 56);
    operation.call.count = line.count.load(std::memory_order_acquire);
    operation.call.bytes = line.bytes.load(std::memory_order_acquire);
    operation.start = line.start.load(std::memory_order_acquire);
    operation.end = line.end.load(std::memory_order_acquire);
    const std::uint64_t both = line.root_and_steps.load(std::memory_order_acquire);
    operation.call.root = static_cast<std::int32_t>(static_cast<std::uint32_t>(both));
    operation.call.steps = static_cast<std::uint32_t>(both >> 32);
    operation.steps_done = line.steps_done.load(std::memory_order_acquire);
    if (line.serial.load(std::memory_order_acquire) != serial) return false;
    // An end that came between the two: look again, for the state that belongs to it.
    if ((operation.end != 0) == (operation.state >= State::complete)) return true;
  }
  operation.end = 0;  // on its way out
  return true;
}

}  // namespace weft::comm::trace
