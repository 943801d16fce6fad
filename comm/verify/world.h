// The schedules of all ranks as the verifier's parts look at them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "comm/schedule/schedule.h"
#include "comm/verify/verify.h"

namespace weft::comm {

// Thrown inside the verifier only; verify() turns it into a counterexample.
struct Refuted {
  std::string counterexample;
};

struct StepRef {
  std::int32_t rank = -1;
  StepId id = -1;
};

// A send and the receive it matches. Messages are sorted by link, then by their turn on it.
struct Message {
  StepRef sender;
  StepRef receiver;
  bool first = false;  // of its link
};

struct World {
  std::span<const Schedule> schedules;
  VerifyOptions options;

  std::vector<std::int64_t> offsets;  // of a rank's first step among all steps, and the total
  std::vector<Message> messages;
  std::vector<std::int32_t> incoming;  // by step: the message it receives, -1 if none
  std::vector<std::int32_t> outgoing;  // by step: the message it sends

  const Problem& problem() const { return schedules.front().problem; }
  std::int32_t size() const { return static_cast<std::int32_t>(schedules.size()); }
  const Schedule& schedule(std::int32_t rank) const {
    return schedules[static_cast<std::size_t>(rank)];
  }
  const Step& step(StepRef ref) const {
    return schedule(ref.rank).steps[static_cast<std::size_t>(ref.id)];
  }
  std::size_t index(StepRef ref) const {
    return static_cast<std::size_t>(offsets[static_cast<std::size_t>(ref.rank)] + ref.id);
  }
  std::string text(StepRef ref) const;  // "rank 2 step 7 recv <1.0 -> out[3]"
};

// Which chunk of the whole operation a slice's i-th chunk is: chunks with the same number are
// equally long on all ranks, for all counts. `scratch` is the rank's, as Schedule::scratch.
std::int64_t chunk_class(const Problem& problem, std::int32_t chunks_per_block,
                         std::span<const std::int32_t> scratch, Slice slice, std::int32_t i);
inline std::int64_t chunk_class(const Schedule& schedule, Slice slice, std::int32_t i) {
  return chunk_class(schedule.problem, schedule.chunks_per_block, schedule.scratch, slice, i);
}

// What a step sends or receives: its message is as long as this.
inline Slice payload_of(const Step& step) { return step.to.count > 0 ? step.to : step.from; }

// The parts of the proof, each throwing Refuted.
void check_steps(const World& world);       // every step by itself makes sense
void match_messages(World& world);          // fills in messages, incoming, outgoing
void check_hazards(const World& world);     // conflicting accesses are ordered
void run_symbolically(const World& world);  // no deadlock, and the right result

}  // namespace weft::comm
