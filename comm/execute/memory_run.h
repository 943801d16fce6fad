// Runs memory schedules: one operation after the other, each rank through its steps in order, as
// far as the others have come; never blocks, so that the driver can look after other things
// meanwhile.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "comm/execute/memory_plan.h"
#include "comm/transport/memory/group.h"
#include "comm/transport/transport.h"
#include "kernels/reduce.h"

namespace weft::comm {

// An operation on memory: what is to be done, bound, and how far it has come.
struct MemoryRun {
  MemoryPlans plans;
  bool chooses = false;  // between both forms, by where all ranks' buffers are
  MemoryBinding by_scratch;
  MemoryBinding everywhere;

  FrameTag tag;  // but for its sequence and index
  std::uint32_t sequence = 0;
  DType dtype = DType::u8;
  ReduceOp op = ReduceOp::sum;
  const void* input = nullptr;
  void* output = nullptr;
  Bytes input_bytes;
  Bytes output_bytes;

  enum class Phase : std::uint8_t { entering, choosing, running, done };
  Phase phase = Phase::entering;
  MemoryBinding* chosen = nullptr;
  std::int64_t round = 0;
  std::size_t next = 0;            // step
  Elems moved;                     // of a move that is under way
  int chosen_up_to = 0;            // ranks whose entry has been looked at
  std::vector<std::byte*> inputs;  // by rank, where they are mapped
  std::vector<std::byte*> outputs;

  void arm(const void* new_input, void* new_output);
  // Over in microseconds, once the others are there.
  bool is_short() const {
    constexpr std::int64_t kShortBytes = 64 << 10;
    return !chooses && input_bytes.value + output_bytes.value <= kShortBytes;
  }
};

class MemoryRunner {
 public:
  explicit MemoryRunner(const memory::Group& group);

  enum class Progress : std::uint8_t { blocked, moved, done };
  // Goes on with the operation that is first in line. Throws LinkLost, FrameMismatch, Corrupt.
  Progress advance(MemoryRun& run);

  // advance() until it is done, or has been blocked for so many looks. True: done.
  bool look(MemoryRun& run, int looks);

  // Any thread. Put where others get it, and got from others: each byte is moved once, by one side.
  std::uint64_t bytes_sent() const { return bytes_sent_.load(std::memory_order_relaxed); }
  std::uint64_t bytes_received() const { return bytes_received_.load(std::memory_order_relaxed); }

 private:
  bool enter(MemoryRun& run);
  bool choose(MemoryRun& run);
  Progress run_steps(MemoryRun& run);
  bool await(int peer, std::int32_t stage);
  bool await_slow(int peer, std::uint64_t wanted);
  void compare(int peer, std::uint64_t epoch);
  void publish(const MemoryRun& run, std::int32_t stage);
  bool move(MemoryRun& run, const BoundStep& step);
  void place_scratch(const MemoryRun& run);
  std::byte* address(const MemoryRun& run, const BoundSlice& slice);
  void move_part(MemoryRun& run, const BoundStep& step, std::span<std::byte* const> places,
                 Elems count);

  const memory::Group& group_;
  const int self_;
  const int size_;
  std::uint64_t epoch_ = 0;
  std::vector<std::uint64_t> known_;     // by rank: progress, as last seen
  std::vector<std::uint64_t> compared_;  // by rank: last epoch whose fingerprints were compared
  std::vector<std::byte*> places_;
  // What is published first in an epoch is written in one go, since others look at that cache line
  // all the time, and each look between two writes costs a transfer.
  std::uint64_t fingerprints_[2] = {};  // this rank's, by parity of the epoch
  bool published_ = false;              // in this epoch
  // Scratch of this epoch, and the part of the ring that was given out last. All ranks find the
  // same from the same operations.
  std::size_t scratch_ = 0;
  std::size_t ring_begin_ = 0;
  std::size_t ring_end_ = 0;
  alignas(64) std::array<std::byte, memory::kInlineBytes> inline_data_{};
  std::atomic<std::uint64_t> bytes_sent_{0};  // one writer, the driver
  std::atomic<std::uint64_t> bytes_received_{0};
};

}  // namespace weft::comm
