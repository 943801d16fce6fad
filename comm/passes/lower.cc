#include "comm/passes/lower.h"

#include <algorithm>

#include "comm/passes/lowering.h"
#include "kernels/base/check.h"

namespace weft::comm {

namespace lowering {

namespace {

Location location_of(const Place& place) {
  return {place.rank, {place.buffer, static_cast<std::int32_t>(place.chunk), 1}};
}

MemoryStep step_of(const Op& op) {
  MemoryStep step;
  step.completes = op.completes;
  for (const Place& place : op.sources) step.sources.push_back(location_of(place));
  for (const Place& place : op.targets) step.targets.push_back(location_of(place));
  return step;
}

bool follows(const std::vector<Location>& first, const std::vector<Location>& second) {
  return std::ranges::equal(first, second, [](const Location& a, const Location& b) {
    return a.rank == b.rank && a.slice.buffer == b.slice.buffer &&
           a.slice.chunk + a.slice.count == b.slice.chunk;
  });
}

class Merger {
 public:
  explicit Merger(const Program& program) : program_(program) {}

  // Makes `second` part of `first` where one move can do both.
  bool merge(MemoryStep& first, const MemoryStep& second) const {
    if (first.completes != second.completes) return false;
    if (first.sources == second.sources) return join_targets(first, second);
    if (!follows(first.sources, second.sources) || !follows(first.targets, second.targets)) {
      return false;
    }
    // Chunks of a move are moved in any order.
    if (overlap(first.sources, second.targets) || overlap(first.targets, second.sources) ||
        overlap(first.targets, second.targets)) {
      return false;
    }
    for (Location& at : first.sources) ++at.slice.count;
    for (Location& at : first.targets) ++at.slice.count;
    return true;
  }

 private:
  bool join_targets(MemoryStep& first, const MemoryStep& second) const {
    // A fold would find its own value where it wrote over an operand; a copy finds the same.
    if (first.sources.size() > 1 || overlap(first.targets, second.targets)) return false;
    first.targets.insert(first.targets.end(), second.targets.begin(), second.targets.end());
    return true;
  }

  bool overlap(const std::vector<Location>& some, const std::vector<Location>& others) const {
    for (const Location& a : some) {
      for (const Location& b : others) {
        if (a.rank != b.rank) continue;
        const Schedule& schedule = program_.world[static_cast<std::size_t>(a.rank)];
        const CellMap cells(schedule.problem, schedule.chunks_per_block, 0, true);
        const std::int32_t first = cells.first(a.slice);
        const std::int32_t other = cells.first(b.slice);
        if (first < other + b.slice.count && other < first + a.slice.count) return true;
      }
    }
    return false;
  }

  const Program& program_;
};

}  // namespace

std::vector<MemoryStep> merge_moves(const Program& program, std::span<const OpId> ops) {
  const Merger merger(program);
  std::vector<MemoryStep> moves;
  for (const OpId id : ops) {
    MemoryStep step = step_of(program.ops[static_cast<std::size_t>(id)]);
    if (moves.empty() || !merger.merge(moves.back(), step)) moves.push_back(std::move(step));
  }
  return moves;
}

}  // namespace lowering

std::vector<MemorySchedule> lower(std::span<const Schedule> world, Reach reach) {
  WEFT_ASSERT(!world.empty(), "a world has at least one rank");
  lowering::Program program(world, reach);
  lowering::read_messages(program);
  lowering::choose_places(program);
  lowering::compact_scratch(program);
  return lowering::order(program);
}

}  // namespace weft::comm
