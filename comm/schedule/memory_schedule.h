// A schedule lowered to memory that all ranks of a group can address (shared memory of one host,
// or threads of one process): no message is left, only reads and writes, and counters that order
// them. passes/lower.h makes it, the verifier proves it, the executor runs it.
//
// Order. Each rank runs its steps one after the other. It has a counter that says 0 when it enters
// the operation and that each `publish` raises by one; `await` blocks until the counter of `peer`
// has reached `stage` (0: it has entered). What a rank did before it published is visible to
// whoever awaited that. Nothing else orders ranks among each other within an operation.
//
// Memory. Each rank has input and output, the caller's buffers, and scratch, in memory that every
// rank can address. Reach::scratch: a rank touches other ranks' scratch alone, and what the others
// need of its own buffers it copies there. Reach::everything: the callers' buffers are mapped by
// all (symmetric memory, or threads), and are read and written where they are.
//
// Lifetimes. A rank's input and output may be touched by others only after it has entered, and only
// as long as it has not finished: an operation ends, on each rank, with the awaits that make sure
// of this. Scratch needs neither: successive operations get different parts of it, and are entered
// only when all ranks have entered the one before.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "comm/schedule/schedule.h"

namespace weft::comm {

enum class Reach : std::uint8_t { scratch, everything };
const char* name_of(Reach reach);

struct Location {
  std::int32_t rank = 0;
  Slice slice;
  bool operator==(const Location&) const = default;
};

enum class MemoryStepKind : std::uint8_t {
  publish,  // raise this rank's counter to `stage`
  await,    // until the counter of `peer` is at least `stage`
  move,     // every target = sources[0] op sources[1] op ..., folded left to right; one: a copy
};

struct MemoryStep {
  MemoryStepKind kind = MemoryStepKind::move;
  bool completes = false;  // of move: the value holds every rank's contribution; avg divides here
  std::int32_t peer = -1;
  std::int32_t stage = 0;
  // All slices of a move are equally long, chunk by chunk. A target may be one of the sources;
  // apart from that they do not overlap.
  std::vector<Location> sources;
  std::vector<Location> targets;
};

struct MemorySchedule {
  Problem problem;
  std::string algorithm;
  Reach reach = Reach::scratch;
  std::int32_t chunks_per_block = 1;
  // By rank, and shared by the schedules of all of them: the chunk of the wide buffer that each
  // scratch chunk stands for, as Schedule::scratch.
  std::shared_ptr<const std::vector<std::vector<std::int32_t>>> scratch;
  std::vector<MemoryStep> steps;
};

// One line a step, "7 move 0:in[1] 1:in[1] -> 0:out[1] 1:out[1] completes", "8 publish 2",
// "9 await 3 stage 2".
std::string print(const MemorySchedule& schedule);
std::string print(const MemoryStep& step, StepId id);

}  // namespace weft::comm
