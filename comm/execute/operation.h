// One run of a plan: the plan bound to counts and buffers, and how far it has come.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "comm/execute/arena.h"
#include "comm/execute/call.h"
#include "comm/execute/memory_run.h"
#include "comm/execute/plan.h"
#include "comm/trace/recorder.h"
#include "kernels/base/units.h"

namespace weft::comm {

using Clock = std::chrono::steady_clock;

// What a handle on an asynchronous operation shares with it. Thread-safe.
class Completion {
 public:
  void wait() const;  // rethrows the failure
  bool done() const { return done_.load(std::memory_order_acquire) != 0; }
  std::exception_ptr error() const;  // once done
  void then(std::function<void(std::exception_ptr)> callback);
  std::chrono::nanoseconds duration() const;

  void complete(std::exception_ptr error);

 private:
  std::atomic<std::uint32_t> done_{0};
  mutable std::mutex mutex_;
  std::vector<std::function<void(std::exception_ptr)>> callbacks_;
  std::exception_ptr error_;
  Clock::time_point start_ = Clock::now();
  Clock::time_point end_;
};

struct Buffers {
  const void* input = nullptr;
  void* output = nullptr;
};

struct Operation;

// The messages of one operation on one link in one direction; a link's queue is a list of these.
struct Stream {
  Operation* operation = nullptr;
  const MessageList* messages = nullptr;
  std::size_t next = 0;  // the message that comes next
  Stream* later = nullptr;
};

struct Place {
  Buffer buffer = Buffer::input;
  Bytes offset;
  Elems count;
};

struct Operation {
  Call call;
  std::uint32_t sequence = 0;
  std::shared_ptr<const Plan> plan;
  FrameTag tag;
  trace::Slot slot;              // its record
  std::size_t element = 1;       // bytes
  std::size_t wire_element = 1;  // the same, in messages
  // Runs on memory that all ranks can address, instead of sending messages: then `run` is what is
  // bound and run, and the parts below stay empty.
  bool on_memory = false;
  MemoryRun run;

  // Bound: where each slice of the plan lies, and the buffers. Kept for a next call of equal
  // counts.
  std::vector<Place> places;
  Bytes scratch_bytes;
  std::byte* bases[3] = {};
  Chunk scratch;

  // Running.
  std::vector<std::int32_t> waits;
  std::vector<Stream> streams;
  std::vector<Chunk> temporaries;
  std::vector<std::int32_t> ready;  // local nodes that may run
  std::int64_t nodes_left = 0;
  std::int64_t nodes_done = 0;
  bool listed = false;  // among those with ready local nodes

  // Finished.
  bool done = false;
  std::exception_ptr error;
  std::shared_ptr<Completion> completion;  // of asynchronous ones

  // Watched.
  std::int64_t nodes_seen = -1;
  Clock::time_point quiet_since;
  std::chrono::milliseconds next_notice{0};

  // Block sizes of a collective. Uniform: every block of one side is `input_block` (or
  // `output_block`) long. Nothing is recomputed if plan, call and counts are those of last time.
  void bind_uniform(std::shared_ptr<const Plan> new_plan, const Call& new_call, Elems input_block,
                    Elems output_block);
  void bind_blocks(std::shared_ptr<const Plan> new_plan, const Call& new_call,
                   std::span<const Elems> input_blocks, std::span<const Elems> output_blocks);
  void bind_message(std::shared_ptr<const Plan> new_plan, const Call& new_call);
  // The same on memory. `shared_scratch`: what a round may use of it. chooses: whether ranks look
  // first whether all their buffers are mapped by all.
  void bind_memory_uniform(const MemoryPlans& plans, const Call& new_call, Elems input_block,
                           Elems output_block, Bytes shared_scratch, bool chooses);
  void bind_memory_blocks(const MemoryPlans& plans, const Call& new_call,
                          std::span<const Elems> input_blocks, std::span<const Elems> output_blocks,
                          Bytes shared_scratch);
  // Whether it is bound, on memory, for just this call of equally long blocks.
  bool repeats(const Call& other, Elems input_block, Elems output_block) const {
    return on_memory && call.collective == other.collective && call.dtype == other.dtype &&
           call.op == other.op && call.root == other.root && call.count == other.count &&
           call.detail == other.detail && call.wire == other.wire &&
           uniform_input_ == input_block && uniform_output_ == output_block;
  }
  bool point_to_point() const { return !on_memory && plan->point_to_point; }
  // Before it is queued: counters and streams as the plan starts with.
  void arm(const Buffers& buffers);

  std::byte* address(std::int32_t slice) const {
    const Place& place = places[static_cast<std::size_t>(slice)];
    std::byte* base = bases[static_cast<std::size_t>(place.buffer)];
    return base == nullptr ? nullptr : base + place.offset.value;
  }
  Buffer buffer(std::int32_t slice) const { return places[static_cast<std::size_t>(slice)].buffer; }
  Elems count(std::int32_t slice) const {
    return slice == kNoSlice ? Elems(0) : places[static_cast<std::size_t>(slice)].count;
  }
  Bytes bytes(std::int32_t slice) const {
    return Bytes(count(slice).value * static_cast<std::int64_t>(element));
  }

  // What of it travels; differs from bytes() if the call compresses.
  Bytes wire_bytes(std::int32_t slice) const {
    return Bytes(count(slice).value * static_cast<std::int64_t>(wire_element));
  }

 private:
  void place_slices(std::span<const Elems> input_blocks, std::span<const Elems> output_blocks);
  void adopt(std::shared_ptr<const Plan> new_plan, const Call& new_call);
  void bind_memory(const MemoryPlans& plans, const Call& new_call, std::span<const Elems> inputs,
                   std::span<const Elems> outputs, Bytes shared_scratch, bool chooses);
  Elems uniform_input_{-1};
  Elems uniform_output_{-1};
};

}  // namespace weft::comm
