// What lower() makes of message schedules on its way: the program of all ranks as one list of
// operations on single chunks, in an order that would be right if they ran one by one. Messages are
// gone: who received now reads where the sender had it.
//
// The list is in the order of levels, the rounds in which ranks that are equally fast would run
// their steps. Values are versions: each store into a chunk makes a new one, and an operand names
// the version it wants, not a place. Where it is read in the end, and where it is kept, is decided
// afterwards (lower_places.cc): that drops copies through scratch, adds private copies in scratch
// of what others cannot reach or would find overwritten, and pushes. What is left is ordered with
// publish and await by who touches which memory (lower_order.cc).
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "comm/schedule/cells.h"
#include "comm/schedule/memory_schedule.h"

namespace weft::comm::lowering {

using OpId = std::int32_t;
using VersionId = std::int32_t;
inline constexpr std::int32_t kNone = -1;
inline constexpr std::int32_t kNever = std::numeric_limits<std::int32_t>::max();

// One chunk. Scratch chunks have sparse names until compact_scratch(): see scratch_name().
struct Place {
  std::int32_t rank = 0;
  Buffer buffer = Buffer::input;
  std::int64_t chunk = 0;
  bool operator==(const Place&) const = default;
};

// What a name of scratch stands for: the schedule's own scratch, or a copy of a chunk that others
// read. Names of neighbours are neighbours; a later generation keeps what an earlier one holds.
enum class ScratchSpace : std::uint8_t { own, of_input, of_output, delivered };
std::int64_t scratch_name(ScratchSpace space, std::int32_t generation, std::int32_t chunk);

struct Read {
  VersionId version = kNone;
  Place place;  // as the step names it: input and output may be one version
};

struct Version {
  Place home;
  OpId writer = kNone;  // none: it was there from the start
  OpId overwriter = kNone;
  std::int32_t overwritten_level = kNever;
  OpId local_copy = kNone;  // its rank copies it to a place that is not scratch
  // Of what was there from the start: the first send of it.
  std::int32_t send_level = kNone;
  std::int32_t send_step = kNone;
  Place sent_from;

  bool read = false;         // where it is, by an operation that counts
  bool result = false;       // it is in the output in the end
  bool privately = false;    // other ranks read a private copy
  bool copy_needed = false;  // and such a reader counts
  Place copy;                // that copy
};

struct Op {
  std::int32_t rank = 0;
  std::int32_t level = 0;
  std::int32_t step = 0;  // operations of one step are neighbours and wait together
  bool folds = false;     // else it copies its one operand
  bool completes = false;
  bool itself = false;  // a copy of memory onto itself when used in place
  bool gone = false;
  VersionId writes = kNone;
  Place to;
  std::vector<Read> operands;
  std::vector<Place> sources;  // where the operands are read, from lower_places on
  std::vector<Place> targets;
};

struct Program {
  explicit Program(std::span<const Schedule> schedules, Reach reach_asked);

  std::span<const Schedule> world;
  Reach reach;  // of accesses; barriers never touch the callers' memory
  Reach asked;
  std::vector<Op> ops;
  std::vector<Version> versions;
  std::vector<std::vector<std::int32_t>> scratch;  // by rank, after compact_scratch()

  const Problem& problem() const { return world.front().problem; }
  std::int32_t size() const { return static_cast<std::int32_t>(world.size()); }
  Op& op(OpId id) { return ops[static_cast<std::size_t>(id)]; }
  Version& version(VersionId id) { return versions[static_cast<std::size_t>(id)]; }
};

// The phases, in this order.
void read_messages(Program& program);    // ops and versions
void choose_places(Program& program);    // sources and targets
void compact_scratch(Program& program);  // names of scratch become chunks
std::vector<MemorySchedule> order(Program& program);

// An operation between its await and its publish, waiting to become steps.
std::vector<MemoryStep> merge_moves(const Program& program, std::span<const OpId> ops);

}  // namespace weft::comm::lowering
