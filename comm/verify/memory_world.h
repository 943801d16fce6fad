// The memory schedules of all ranks as the verifier's parts look at them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "comm/schedule/cells.h"
#include "comm/schedule/memory_schedule.h"
#include "comm/verify/world.h"

namespace weft::comm {

struct MemoryWorld {
  std::span<const MemorySchedule> schedules;
  bool in_place = false;
  std::vector<CellMap> cells;  // by rank, once check_memory_schedules has said that it makes sense

  const Problem& problem() const { return schedules.front().problem; }
  std::int32_t size() const { return static_cast<std::int32_t>(schedules.size()); }
  const MemorySchedule& schedule(std::int32_t rank) const {
    return schedules[static_cast<std::size_t>(rank)];
  }
  const MemoryStep& step(StepRef ref) const {
    return schedule(ref.rank).steps[static_cast<std::size_t>(ref.id)];
  }
  std::int32_t cell(const Location& at, std::int32_t i) const {
    return cells[static_cast<std::size_t>(at.rank)].first(at.slice) + i;
  }
  std::string text(StepRef ref) const;  // "rank 2 step 7 await 1 stage 2"
  // A step among those around it, one a line: what a counterexample is about.
  std::string around(StepRef ref) const;
};

// The parts of the proof, each throwing Refuted.
void check_memory_schedules(MemoryWorld& world);    // they belong together; fills in cells
void check_memory_steps(const MemoryWorld& world);  // every step by itself makes sense
void run_in_memory(const MemoryWorld& world);       // no deadlock, no race, and the right result

}  // namespace weft::comm
