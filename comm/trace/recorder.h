// The flight recorder: the last 1,024 operations of one communicator on one rank, always on.
//
// One cache line an operation, written in place: no lock, no allocation. begin() calls must not
// overlap each other (the engine's lock, or the exclusive use of a fast path, sees to that); the
// later calls for an operation may come from any thread, one at a time. Reading is possible at any
// moment, from other threads and from signal handlers, while being written: a record that changes
// meanwhile is read again, or left out.
//
// An operation's way: begin() as `queued` or `running`, run(), steps() as often as it likes, end().
// For a path that is over in a moment: begin(call, State::running), end(slot, State::complete).
// Cost: two readings of the tick counter (10 ns each) and ten stores that hide behind them. Who has
// taken a reading already passes it; where every nanosecond counts, publish to the peers first and
// begin() while they answer.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "comm/trace/clock.h"

namespace weft::comm::trace {

enum class State : std::uint8_t { queued, running, complete, failed };
inline constexpr int kStateCount = 4;

// What an operation is. Codes are those of comm/schedule: Collective, DType, ReduceOp, the index of
// the algorithm's name.
struct CallFields {
  std::uint32_t sequence = 0;  // of the collective on its communicator; of the message to its peer
  std::uint8_t collective = 0;
  std::uint8_t dtype = 0;
  std::uint8_t op = 0;
  std::uint8_t algorithm = 0;
  // Of rooted collectives, in the communicator; of send and recv: the peer, in the job. -1: none.
  std::int32_t root = -1;
  std::uint64_t count = 0;  // elements
  std::uint64_t bytes = 0;
  std::uint32_t steps = 0;  // how many there are to do; 0: not known
};

// One record, as read.
struct Operation {
  std::uint64_t serial = 0;  // 1 for the first of the communicator
  CallFields call;
  Ticks start = 0;
  Ticks end = 0;  // 0: not over
  State state = State::queued;
  std::uint32_t steps_done = 0;
};

// An operation's record; of no use any more, and harmless, once 1,024 others have begun.
struct Slot {
  std::uint64_t serial = 0;  // 0: none
};

class Recorder {
 public:
  static constexpr std::size_t kRecords = 1024;

  Recorder() : lines_(std::make_unique<std::array<Line, kRecords>>()) {}

  Slot begin(const CallFields& call, State state, Ticks now = ticks()) {
    const std::uint64_t serial = begun_.load(std::memory_order_relaxed) + 1;
    Line& line = (*lines_)[serial % kRecords];
    line.serial.store(0, std::memory_order_relaxed);
    // Released one by one: a reader that sees any of these sees serial 0, or a later one.
    line.identity.store(std::uint64_t{call.sequence} | std::uint64_t{call.collective} << 32 |
                            std::uint64_t{call.dtype} << 40 | std::uint64_t{call.op} << 48 |
                            std::uint64_t{call.algorithm} << 56,
                        std::memory_order_release);
    line.count.store(call.count, std::memory_order_release);
    line.bytes.store(call.bytes, std::memory_order_release);
    line.start.store(now, std::memory_order_release);
    line.end.store(0, std::memory_order_release);
    line.root_and_steps.store(
        std::uint64_t{static_cast<std::uint32_t>(call.root)} | std::uint64_t{call.steps} << 32,
        std::memory_order_release);
    line.steps_done.store(0, std::memory_order_release);
    line.state.store(static_cast<std::uint32_t>(state), std::memory_order_release);
    line.serial.store(serial, std::memory_order_release);
    begun_.store(serial, std::memory_order_release);
    __builtin_prefetch(&(*lines_)[(serial + 1) % kRecords], 1);
    return {serial};
  }

  void run(Slot slot) {
    if (Line* line = find(slot)) {
      line->state.store(static_cast<std::uint32_t>(State::running), std::memory_order_release);
    }
  }
  void steps(Slot slot, std::uint32_t done) {
    if (Line* line = find(slot)) line->steps_done.store(done, std::memory_order_release);
  }
  // The first one counts; false if this was none, or the record is gone.
  bool end(Slot slot, State state, Ticks now = ticks()) {
    Line* line = find(slot);
    if (line == nullptr || line->end.load(std::memory_order_relaxed) != 0) return false;
    line->end.store(now, std::memory_order_release);
    line->state.store(static_cast<std::uint32_t>(state), std::memory_order_release);
    return true;
  }

  std::uint64_t begun() const { return begun_.load(std::memory_order_acquire); }
  // The serial of the oldest that is still here; 1 if none has begun.
  static std::uint64_t oldest(std::uint64_t begun) {
    return begun <= kRecords ? 1 : begun - kRecords + 1;
  }
  // False if it is not here (any more). Async-signal-safe.
  bool read(std::uint64_t serial, Operation& operation) const;

 private:
  struct alignas(64) Line {
    std::atomic<std::uint64_t> serial{0};  // 0 while it is being written
    std::atomic<std::uint64_t> identity{0};
    std::atomic<std::uint64_t> count{0};
    std::atomic<std::uint64_t> bytes{0};
    std::atomic<Ticks> start{0};
    std::atomic<Ticks> end{0};
    std::atomic<std::uint64_t> root_and_steps{0};
    std::atomic<std::uint32_t> steps_done{0};
    std::atomic<std::uint32_t> state{0};
  };
  static_assert(sizeof(Line) == 64);
  static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

  Line* find(Slot slot) {
    Line& line = (*lines_)[slot.serial % kRecords];
    const bool here =
        slot.serial != 0 && line.serial.load(std::memory_order_relaxed) == slot.serial;
    return here ? &line : nullptr;
  }

  std::unique_ptr<std::array<Line, kRecords>> lines_;
  std::atomic<std::uint64_t> begun_{0};
};

}  // namespace weft::comm::trace
